#include "checkpoint/encoder_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

const fs::path kTiny = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/similarity/encoders/tiny-bert";

Json tiny_config() { return read_json(kTiny / "config.json"); }

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::refused);
    return error.what();
  }
  return {};
}

TEST(EncoderConfig, RefusesWhatItCannotRun) {
  const auto with = [](const char* key, const Json& value) {
    return refusal([&] {
      Json config = tiny_config();
      config[key] = value;
      parse_encoder_config(config, "config.json");
    });
  };
  EXPECT_EQ(with("vocab_size", 1000), "");
  EXPECT_THAT(with("model_type", "mpnet"), testing::HasSubstr("supported: bert, roberta"));
  EXPECT_THAT(with("hidden_act", "gelu_new"), testing::HasSubstr("gelu_new"));
  EXPECT_THAT(with("position_embedding_type", "relative_key"), testing::HasSubstr("relative_key"));
  EXPECT_THAT(with("is_decoder", true), testing::HasSubstr("is_decoder"));
  for (const char* key :
       {"num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
        "vocab_size", "max_position_embeddings", "type_vocab_size"}) {
    for (const Json& value : {Json(0), Json(-1), Json(1.5), Json("8"), Json(),
                              Json(int64_t{1} << 40), Json(uint64_t{1} << 63)})
      EXPECT_THAT(with(key, value), testing::HasSubstr(key)) << value;
  }
  EXPECT_NE(with("num_attention_heads", 3), "");  // does not divide hidden_size
  EXPECT_NE(with("layer_norm_eps", 0), "");
  EXPECT_NE(with("pad_token_id", -1), "");
  EXPECT_NE(with("pad_token_id", 1 << 30), "");
  EXPECT_NE(with("max_position_embeddings", 2), "");
  EXPECT_NE(refusal([] { parse_encoder_config(Json::array(), "config.json"); }), "");
}

// A copy of the tiny encoder with some files replaced.
class EncoderFiles : public testing::Test {
 protected:
  EncoderFiles() {
    for (const auto& entry : fs::directory_iterator(kTiny))
      fs::copy_file(entry.path(), directory_.path() / entry.path().filename());
  }
  std::string open() const {
    return refusal([&] { EncoderCheckpoint checkpoint(directory_.path()); });
  }
  void put(const fs::path& name, const std::string& text) const {
    fs::create_directories((directory_.path() / name).parent_path());
    write_text(directory_.path() / name, text);
  }

  const TemporaryDirectory directory_;
};

TEST_F(EncoderFiles, Lengths) {
  EXPECT_EQ(EncoderCheckpoint(directory_.path()).model_tokens(), 64);
  put("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(EncoderCheckpoint(directory_.path()).model_tokens(), 64);
  put("tokenizer_config.json", R"({"model_max_length": 40})");
  put("sentence_bert_config.json", R"({"max_seq_length": 30, "do_lower_case": false})");
  EXPECT_EQ(EncoderCheckpoint(directory_.path()).model_tokens(), 40);
  EXPECT_EQ(EncoderCheckpoint(directory_.path()).sentence_tokens(), 30);
  for (const char* length : {"2", "-5", "\"9\"", "[]"}) {
    put("sentence_bert_config.json", std::string("{\"max_seq_length\": ") + length + "}");
    EXPECT_THAT(open(), testing::HasSubstr("max_seq_length"));
  }
  put("sentence_bert_config.json", R"({"do_lower_case": true})");
  EXPECT_THAT(open(), testing::HasSubstr("do_lower_case"));
}

TEST_F(EncoderFiles, OnlyMeanPooling) {
  const auto module = [](const char* type, const char* path) {
    return Json{{"type", std::string("sentence_transformers.models.") + type}, {"path", path}};
  };
  put("modules.json",
      Json::array({module("Transformer", ""), module("Pooling", "1_Pooling")}).dump());
  EXPECT_THAT(open(), testing::HasSubstr("1_Pooling/config.json is not there"));
  put("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
  EXPECT_EQ(open(), "");
  put("1_Pooling/config.json",
      R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
  EXPECT_THAT(open(), testing::HasSubstr("pooling_mode_cls_token"));
  put("1_Pooling/config.json", R"({"pooling_mode": "cls"})");
  EXPECT_THAT(open(), testing::HasSubstr("pooling_mode"));
  put("1_Pooling/config.json", "{}");
  EXPECT_THAT(open(), testing::HasSubstr("no mean"));
  put("1_Pooling/config.json", R"({"pooling_mode": "mean"})");
  EXPECT_EQ(open(), "");
  put("modules.json", Json::array({module("Transformer", ""), module("Dense", "2_Dense")}).dump());
  EXPECT_THAT(open(), testing::HasSubstr("Dense"));
  put("modules.json", Json::array({module("Pooling", "../elsewhere")}).dump());
  EXPECT_THAT(open(), testing::HasSubstr("Pooling"));
}

TEST_F(EncoderFiles, MissingAndForeignFiles) {
  fs::remove(directory_.path() / "tokenizer.json");
  EXPECT_THAT(open(), testing::HasSubstr("no tokenizer.json"));
  fs::create_symlink("/etc/hostname", directory_.path() / "tokenizer.json");
  EXPECT_NE(open(), "");
  EXPECT_NE(refusal([] { EncoderCheckpoint checkpoint("/nowhere/at/all"); }), "");
}

TEST_F(EncoderFiles, TensorsMustFit) {
  const EncoderCheckpoint checkpoint(directory_.path());
  const std::string name = "encoder.layer.0.attention.self.query.weight";
  EXPECT_EQ(checkpoint.read(name, {32, 32}).dtype(), DType::f32);
  EXPECT_THAT(refusal([&] {
                checkpoint.read(name, {32, 64});
              }),
              testing::HasSubstr("[32, 32], config.json asks for [32, 64]"));
  EXPECT_THAT(refusal([&] { checkpoint.read("encoder.layer.9.x", {32}); }),
              testing::HasSubstr("no such tensor"));
  // Norms are called by their old names in this file.
  EXPECT_EQ(checkpoint.read("embeddings.LayerNorm.weight", {32}).elements(), 32);
}

TEST_F(EncoderFiles, FingerprintCoversTheTokenizer) {
  const std::string before = EncoderCheckpoint(directory_.path()).fingerprint();
  put("tokenizer_config.json", R"({"model_max_length": 40})");
  EXPECT_NE(EncoderCheckpoint(directory_.path()).fingerprint(), before);
}

}  // namespace
}  // namespace narrow::checkpoint
