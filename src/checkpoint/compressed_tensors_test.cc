// Whole checkpoints as llmcompressor saved them: codes, scales and dequantized values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/test_files.h"
#include "checkpoint/writer.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

const fs::path kGoldens = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/compressed-tensors";

std::string hash_of(const Tensor& tensor) {
  Sha256 hash;
  hash.add(tensor.raw());
  return hash.hex();
}

TEST(CompressedTensors, EveryGoldenModuleHasThePeersCodesScalesAndValues) {
  const Json golden = read_json(kGoldens / "expected.json");
  ASSERT_EQ(golden.size(), 10u);
  for (const auto& [variant, modules] : golden.items()) {
    const auto model = open(kGoldens / variant);
    for (const auto& [module, expected] : modules.items()) {
      const PackedLinear linear = model->read_linear(module);
      const bool integer = linear.scheme.weights->type == QuantArgs::Type::integer;
      const Tensor codes = integer ? unpack_codes(linear) : linear.weight;
      EXPECT_EQ(hash_of(codes).substr(0, 16), expected["codes"]) << variant << " " << module;
      EXPECT_EQ(hash_of(linear.scale).substr(0, 16), expected["scales"])
          << variant << " " << module;
      EXPECT_EQ(hash_of(dequantize(linear).to(DType::bf16)), expected["dequantized"])
          << variant << " " << module;
    }
  }
}

TEST(CompressedTensors, ModulesUnderIgnoreAreDense) {
  const auto model = open(kGoldens / "w4a16_asym_rtn");
  EXPECT_TRUE(model->scheme("model.layers.0.mlp.down_proj").dense());
  EXPECT_TRUE(model->scheme("lm_head").dense());
  EXPECT_EQ(model->read_linear("model.layers.0.mlp.down_proj").weight.dtype(), DType::bf16);
  EXPECT_EQ(model->format(), "mixed");
  EXPECT_EQ(open(kGoldens / "w8a8_rtn")->format(), "w8a8-int");
  EXPECT_EQ(open(kGoldens / "fp8_dynamic_rtn")->format(), "w8a8-fp");
}

TEST(CompressedTensors, StaticInputsCarryTheirScale) {
  const PackedLinear linear =
      open(kGoldens / "fp8_static")->read_linear("model.layers.0.mlp.down_proj");
  EXPECT_FALSE(linear.scheme.inputs->dynamic);
  ASSERT_EQ(linear.input_scale.elements(), 1);
  EXPECT_GT(linear.input_scale.as<float>()[0], 0);
}

TEST(CompressedTensors, FormatsThatDoNotRunAreRefusedByName) {
  for (const char* variant : {"nvfp4a16_rtn", "mxfp4a16_rtn"}) {
    const Json config = read_json(kGoldens / variant / "config.json");
    EXPECT_THAT([&] { QuantizationConfig(config, "config.json"); },
                ThrowsMessage<Error>(HasSubstr("fp4-pack-quantized\" is not supported")));
  }
}

// What is written again is byte for byte what the peer wrote.
TEST(CompressedTensors, RewrittenCheckpointEqualsThePeers) {
  for (const char* variant : {"w4a16_asym_rtn", "w3a16_channel_asym_rtn", "w8a8_rtn",
                              "fp8_dynamic_rtn", "w4a16_gptq_mse_static"}) {
    const auto model = open(kGoldens / variant);
    TemporaryDirectory directory;
    Writer writer(directory.path() / "out");
    for (const std::string& name : model->tensor_names()) {
      const size_t dot = name.rfind('.');
      const std::string module = name.substr(0, dot), tensor = name.substr(dot + 1);
      if (tensor == "weight_scale") {
        writer.add(module, model->read_linear(module));
      } else if (tensor == "weight" && !model->contains(module + ".weight_scale")) {
        if (name.find("_proj") != std::string::npos) {
          writer.add(module, model->read_linear(module));
        } else {
          writer.add(name, model->read(name));
        }
      }
    }
    writer.finish(model->documents());
    EXPECT_EQ(sha256_file(directory.path() / "out/model.safetensors"),
              sha256_file(kGoldens / variant / "model.safetensors"))
        << variant;
    EXPECT_EQ(read_text(directory.path() / "out/config.json"),
              read_text(kGoldens / variant / "config.json") + "\n")
        << variant;
  }
}

Json with_weights(const Json& weights) {
  return {{"quantization_config",
           {{"quant_method", "compressed-tensors"},
            {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}}}};
}

TEST(QuantizationConfig, TakesOldAndNewSpellings) {
  const Json weights = {
      {"num_bits", 4}, {"type", "int"}, {"strategy", "group"}, {"group_size", 128}};
  Json old = with_weights(weights);
  old["compression_config"] = old["quantization_config"];
  old.erase("quantization_config");
  old["compression_config"].erase("quant_method");
  EXPECT_EQ(QuantizationConfig(old, "c").scheme("m").weights->group_size, 128);

  const std::pair<Json, QuantArgs::ActOrder> orders[] = {
      {nullptr, QuantArgs::ActOrder::none},    {false, QuantArgs::ActOrder::none},
      {true, QuantArgs::ActOrder::group},      {"group", QuantArgs::ActOrder::group},
      {"dynamic", QuantArgs::ActOrder::group}, {"weight", QuantArgs::ActOrder::weight},
      {"static", QuantArgs::ActOrder::weight}};
  for (const auto& [text, order] : orders) {
    Json changed = weights;
    changed["actorder"] = text;
    EXPECT_EQ(QuantizationConfig(with_weights(changed), "c").scheme("m").weights->actorder, order);
  }
  const Json channel = {{"num_bits", 4}, {"group_size", -1}};
  EXPECT_EQ(QuantizationConfig(with_weights(channel), "c").scheme("m").weights->strategy,
            QuantArgs::Strategy::channel);
}

TEST(QuantizationConfig, NamesWinOverPatternsOverTheClass) {
  const auto group = [](const char* target, int bits) {
    return Json{{"targets", {target}}, {"weights", {{"num_bits", bits}, {"strategy", "channel"}}}};
  };
  Json config;
  config["quantization_config"] = {
      {"config_groups",
       {{"a", group("Linear", 8)}, {"b", group("re:.*mlp.*", 4)}, {"c", group("x.mlp.up", 3)}}},
      {"ignore", {"lm_head", "re:x\\.skip"}}};
  const QuantizationConfig parsed(config, "c");
  EXPECT_EQ(parsed.scheme("x.attn").weights->bits, 8);
  EXPECT_EQ(parsed.scheme("x.mlp.down").weights->bits, 4);
  EXPECT_EQ(parsed.scheme("x.mlp.up").weights->bits, 3);
  EXPECT_TRUE(parsed.scheme("lm_head").dense());
  EXPECT_TRUE(parsed.scheme("x.skipped").dense());  // a pattern needs to match a beginning only
  EXPECT_FALSE(parsed.scheme("y.x.skip").dense());
}

TEST(QuantizationConfig, RefusesWhatItCannotMean) {
  const Json bad[] = {
      {{"num_bits", 4}, {"type", "float"}},
      {{"num_bits", 9}},
      {{"num_bits", 1}},
      {{"num_bits", "4"}},
      {{"num_bits", 4}, {"strategy", "block"}},
      {{"num_bits", 4}, {"strategy", "tensor_group"}, {"group_size", 16}},
      {{"num_bits", 4}, {"strategy", "group"}},
      {{"num_bits", 4}, {"strategy", "group"}, {"group_size", int64_t{1} << 40}},
      {{"num_bits", 4}, {"actorder", "sideways"}},
      {{"num_bits", 8}, {"dynamic", true}},
      {{"num_bits", 8}, {"dynamic", "local"}},
      {{"num_bits", 8}, {"type", "float"}, {"symmetric", false}, {"strategy", "channel"}},
      3};
  for (const Json& weights : bad)
    EXPECT_THROW(QuantizationConfig(with_weights(weights), "c"), Error) << weights;
  for (const char* method : {"gptq", "awq", "bitsandbytes", "fp8"})
    EXPECT_THROW(QuantizationConfig(Json{{"quantization_config", {{"quant_method", method}}}}, "c"),
                 Error);
  Json config = with_weights({{"num_bits", 8}, {"strategy", "channel"}});
  config["quantization_config"]["config_groups"]["group_0"]["targets"] = {"re:("};
  EXPECT_THROW(QuantizationConfig(config, "c"), Error);
  config["quantization_config"]["config_groups"]["group_0"]["targets"] = {"re:(a+)+$"};
  const QuantizationConfig slow(config, "c");
  EXPECT_THAT([&] { slow.scheme(std::string(64, 'a') + "b"); },
              ThrowsMessage<Error>(HasSubstr("too long")));
}

// Files of compressed-tensors before 0.9: padded words, plain zero points, group index.
class OldFile {
 public:
  // 2 rows of 64 columns in 3 bits, two groups of 32: 7 words a row where dense packing takes 6.
  explicit OldFile(const std::string& drop = {}, bool bad_group = false) {
    Tensor packed(DType::i32, {2, 7}), shape(DType::i64, {2}), scale(DType::bf16, {2, 2}),
        zero(DType::i8, {2, 2}), index(DType::i32, {64});
    for (int64_t r = 0; r < 2; ++r)
      for (int64_t c = 0; c < 64; ++c)
        packed.matrix<int32_t>()(r, c / 10) |= static_cast<int32_t>((c + r) % 8) << (c % 10 * 3);
    shape.as<int64_t>()[0] = 2;
    shape.as<int64_t>()[1] = 64;
    for (size_t i = 0; i < 4; ++i) {
      scale.as<bf16>()[i] = to_bf16(static_cast<float>(i + 1));
      zero.as<int8_t>()[i] = static_cast<int8_t>(i) - 2;
    }
    for (size_t c = 0; c < 64; ++c) index.as<int32_t>()[c] = static_cast<int32_t>(c % 2);
    if (bad_group) index.as<int32_t>()[7] = 2;
    const auto source = open(fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k");
    Documents documents = source->documents();
    Json config = parse_json(documents.config, "c");
    config["quantization_config"] = with_weights({{"num_bits", 3},
                                                  {"strategy", "group"},
                                                  {"group_size", 32},
                                                  {"symmetric", false},
                                                  {"actorder", "group"}})["quantization_config"];
    const std::pair<const char*, const Tensor*> tensors[] = {{"m.weight_packed", &packed},
                                                             {"m.weight_shape", &shape},
                                                             {"m.weight_scale", &scale},
                                                             {"m.weight_zero_point", &zero},
                                                             {"m.weight_g_idx", &index}};
    Writer writer(directory.path() / "old");
    for (const auto& [name, tensor] : tensors)
      if (name != drop) writer.add(name, *tensor);
    writer.finish(documents);
    write_text(path() / "config.json", config.dump());
  }
  fs::path path() const { return directory.path() / "old"; }
  TemporaryDirectory directory;
};

TEST(CompressedTensors, ReadsTheOldLayout) {
  const OldFile file;
  const PackedLinear linear = open(file.path())->read_linear("m");
  const Tensor values = dequantize(linear);
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      const auto group = c % 2, at = 2 * r + group;
      const float code = static_cast<float>((c + r) % 8 - 4), zero = static_cast<float>(at - 2);
      EXPECT_EQ(values.matrix<float>()(r, c), (code - zero) * static_cast<float>(at + 1));
    }
  }
}

TEST(CompressedTensors, RefusesMissingTensorsAndBadGroups) {
  for (const char* name : {"m.weight_packed", "m.weight_shape", "m.weight_scale"}) {
    const OldFile file(name);
    EXPECT_THROW(open(file.path())->read_linear("m"), Error) << name;
  }
  const OldFile file({}, /*bad_group=*/true);
  EXPECT_THAT([&] { open(file.path())->read_linear("m"); },
              ThrowsMessage<Error>(HasSubstr("group 2 of 2")));
}

}  // namespace
}  // namespace narrow::checkpoint
