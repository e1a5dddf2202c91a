// Scales of keys and values on stories260K, whose own cache in e4m3 needs none.
#include "model/kv_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "checkpoint/test_files.h"
#include "checkpoint/writer.h"
#include "model/test_logits.h"

namespace narrow::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kStories = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k";
const std::string kAttention = "model.layers.0.self_attn.";

Tensor numbers(const std::vector<float>& values) {
  Tensor tensor(DType::f32, {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.as<float>().begin());
  return tensor;
}

Tensor times(const Tensor& tensor, float factor) {
  Tensor result = tensor.clone();
  for (float& value : result.as<float>()) value *= factor;
  return result;
}

// stories260K with keys and values `growth` times as large, of which its logits do not depend, and
// with these scales in all layers; none are written where there are none.
fs::path write_stories(const fs::path& directory, float growth, const std::vector<float>& keys,
                       const std::vector<float>& values) {
  const auto source = checkpoint::open(kStories);
  checkpoint::Writer writer(directory);
  for (const std::string& name : source->tensor_names()) {
    const auto is = [&](const char* part) { return name.find(part) != std::string::npos; };
    Tensor tensor = source->read(name);
    if (is("k_proj") || is("v_proj")) tensor = times(tensor, growth);
    if (is("q_proj") || is("o_proj")) tensor = times(tensor, 1 / growth);
    writer.add(name, tensor);
  }
  for (int64_t i = 0; i < source->config().layers; ++i) {
    const std::string attention = "model.layers." + std::to_string(i) + ".self_attn.";
    if (!keys.empty()) writer.add(attention + "k_scale", numbers(keys));
    if (!values.empty()) writer.add(attention + "v_scale", numbers(values));
  }
  writer.finish(source->documents());
  return directory;
}

std::vector<float> logits(const fs::path& model, DType kv_dtype) {
  const auto checkpoint = checkpoint::open(model);
  const auto backend = ops::make_backend("reference");
  Decoder decoder(*checkpoint, *backend);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(3 + 11 * i % 480);
  std::vector<float> all;
  for_each_logits(
      decoder, tokens,
      [&](int64_t, View<const float> rows) {
        all.insert(all.end(), rows.data, rows.data + rows.rows * rows.cols);
      },
      kv_dtype);
  return all;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

TEST(KvScales, KeepKeysAndValuesInTheRangeOfE4m3) {
  const TemporaryDirectory folder;
  const std::vector<float> exact = logits(kStories, DType::f32);
  const std::vector<float> rounded = logits(kStories, DType::f8_e4m3);
  const auto beyond = write_stories(folder.path() / "beyond", 4096, {}, {});
  EXPECT_GT(largest_difference(logits(beyond, DType::f8_e4m3), exact), 1);
  // 3000 becomes 4096.
  const auto scaled = write_stories(folder.path() / "scaled", 4096, {3000}, {4096});
  EXPECT_EQ(logits(scaled, DType::f8_e4m3), rounded);
  EXPECT_EQ(logits(scaled, DType::f32), exact);
  // One scale a head, of which the largest counts; numbers that e4m3 holds whatever the scale.
  const auto heads = write_stories(folder.path() / "heads", 1, {0.5f, 0.1f, 0.25f, 0.2f}, {});
  EXPECT_EQ(logits(heads, DType::f32), exact);
  EXPECT_LT(largest_difference(logits(heads, DType::f8_e4m3), exact),
            2 * largest_difference(rounded, exact));
}

TEST(KvScales, AreRoundedUpToPowersOfTwo) {
  const TemporaryDirectory folder;
  const auto model =
      checkpoint::open(write_stories(folder.path() / "model", 1, {0.03f}, {1, 2, 1.5f, 1}));
  const KvExponents exponents = read_kv_exponents(*model, kAttention);
  EXPECT_EQ(exponents.keys, -5);
  EXPECT_EQ(exponents.values, 1);
  const KvExponents none = read_kv_exponents(*checkpoint::open(kStories), kAttention);
  EXPECT_EQ(none.keys, 0);
  EXPECT_EQ(none.values, 0);
}

TEST(KvScales, OfOtherSchemesAreNotApplied) {
  const TemporaryDirectory folder;
  for (const bool floating : {true, false}) {
    const auto model = write_stories(folder.path() / (floating ? "float" : "int"), 1, {8}, {8});
    Json config = parse_json(read_text(model / "config.json"), "config.json");
    config["quantization_config"] = {
        {"quant_method", "compressed-tensors"},
        {"kv_cache_scheme", {{"num_bits", 8}, {"type", floating ? "float" : "int"}}}};
    write_text(model / "config.json", config.dump());
    EXPECT_EQ(read_kv_exponents(*checkpoint::open(model), kAttention).keys, floating ? 3 : 0);
  }
}

TEST(KvScales, RefusesWhatIsNoScale) {
  int number = 0;
  const TemporaryDirectory folder;
  for (const std::vector<float>& scales : {std::vector<float>{0},
                                           {-1},
                                           {NAN},
                                           {INFINITY},
                                           {1, 0},
                                           {1e30f},
                                           {1e-30f},
                                           std::vector<float>(5000, 1.0f)}) {
    const auto model =
        checkpoint::open(write_stories(folder.path() / std::to_string(number++), 1, scales, {1}));
    try {
      read_kv_exponents(*model, kAttention);
      ADD_FAILURE() << "took " << scales.front() << " of " << scales.size();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(kAttention + "k_scale"));
    }
  }
}

// Of 8 bits with static inputs: every number on the way is a power of two times what it was.
TEST(KvScales, GoIntoScalesOfQuantizedProjections) {
  const auto projection = [](float scale, float input_scale) {
    PackedLinear linear;
    linear.scheme.weights = QuantArgs{};
    linear.scheme.inputs = QuantArgs{};
    linear.out = linear.in = 2;
    linear.weight = Tensor(DType::i8, {2, 2});
    linear.scale = numbers({scale, 2 * scale}).reshaped({2, 1}).to(DType::bf16);
    linear.input_scale = numbers({input_scale});
    linear.bias = numbers({1, 2});
    return linear;
  };
  std::map<std::string, PackedLinear> linears;
  for (const char* name : {"q", "k", "v", "o"})
    linears["self_attn." + std::string(name) + "_proj"] = projection(0.75f, 0.5f);
  const Tensor shared = linears["self_attn.k_proj"].bias;
  fold_kv_exponents({3, -2}, linears);
  const auto expect = [&](const char* name, float scale, float input_scale, float bias) {
    const PackedLinear& linear = linears["self_attn." + std::string(name) + "_proj"];
    EXPECT_EQ(linear.scale.to(DType::f32).as<float>()[1], 2 * scale) << name;
    EXPECT_EQ(linear.scale.dtype(), DType::bf16);
    EXPECT_EQ(linear.input_scale.as<float>()[0], input_scale) << name;
    EXPECT_EQ(linear.bias.as<float>()[1], 2 * bias) << name;
  };
  expect("q", 6, 0.5f, 8);
  expect("k", 0.09375f, 0.5f, 0.125f);
  expect("v", 3, 0.5f, 4);
  expect("o", 0.1875f, 2, 1);
  EXPECT_EQ(shared.as<float>()[1], 2);
}

}  // namespace
}  // namespace narrow::model
