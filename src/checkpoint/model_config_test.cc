#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace narrow::checkpoint {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Json llama() {
  return {{"model_type", "llama"},    {"num_hidden_layers", 2},         {"hidden_size", 64},
          {"num_attention_heads", 8}, {"num_key_value_heads", 4},       {"intermediate_size", 172},
          {"vocab_size", 512},        {"max_position_embeddings", 128}, {"rms_norm_eps", 1e-5},
          {"eos_token_id", 2}};
}

TEST(ModelConfig, ReadsLlama) {
  const ModelConfig config = parse_model_config(llama(), "config.json");
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_FALSE(config.rope_scaling || config.attention_bias || config.tied_embeddings);
  EXPECT_THAT(config.eos_ids, testing::ElementsAre(2));
}

TEST(ModelConfig, ReadsRopeInOldAndNewForm) {
  Json old = llama();
  old["rope_theta"] = 500000.0;
  old["rope_scaling"] = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 8192}};
  Json fresh = llama();
  fresh["rope_parameters"] = old["rope_scaling"];
  fresh["rope_parameters"]["rope_theta"] = 500000.0;
  for (const Json& form : {old, fresh}) {
    const ModelConfig config = parse_model_config(form, "config.json");
    EXPECT_EQ(config.rope_theta, 500000);
    ASSERT_TRUE(config.rope_scaling);
    EXPECT_EQ(config.rope_scaling->type, RopeScaling::Type::llama3);
    EXPECT_EQ(config.rope_scaling->factor, 8);
    EXPECT_EQ(config.rope_scaling->original_context_tokens, 8192);
  }
  Json oldest = llama();
  oldest["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  EXPECT_EQ(parse_model_config(oldest, "config.json").rope_scaling->factor, 2);
  Json plain = llama();
  plain["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  EXPECT_FALSE(parse_model_config(plain, "config.json").rope_scaling);
}

TEST(ModelConfig, QwenAlwaysHasAttentionBias) {
  Json config = llama();
  config["model_type"] = "qwen2";
  config["use_sliding_window"] = false;
  EXPECT_TRUE(parse_model_config(config, "config.json").attention_bias);
}

TEST(ModelConfig, CollectsEndTokensOfBothFiles) {
  Json config = llama();
  config["eos_token_id"] = {2, 5};
  ModelConfig parsed = parse_model_config(config, "config.json");
  add_eos_ids(Json{{"eos_token_id", {5, 9}}}, "generation_config.json", parsed);
  EXPECT_THAT(parsed.eos_ids, testing::ElementsAre(2, 5, 9));
}

TEST(ModelConfig, RefusesBadFields) {
  const std::pair<const char*, Json> cases[] = {
      {"model_type", "bert"},
      {"model_type", 3},
      {"num_hidden_layers", 0},
      {"num_hidden_layers", -1},
      {"num_hidden_layers", 1025},
      {"num_hidden_layers", 2.5},
      {"num_hidden_layers", "2"},
      {"num_hidden_layers", ~uint64_t{0}},
      {"hidden_size", 63},
      {"hidden_size", int64_t{1} << 40},
      {"num_key_value_heads", 3},
      {"num_key_value_heads", 0},
      {"head_dim", 7},
      {"vocab_size", int64_t{1} << 31},
      {"rms_norm_eps", -1.0},
      {"rope_theta", 0.0},
      {"hidden_act", "gelu"},
      {"mlp_bias", true},
      {"use_sliding_window", true},
      {"eos_token_id", 512},
      {"eos_token_id", -1},
      {"bos_token_id", 512},
      {"tie_word_embeddings", 1},
      {"partial_rotary_factor", 0.5},
      {"rope_scaling", Json{{"rope_type", "yarn"}, {"factor", 4.0}}},
      {"rope_scaling", Json{{"rope_type", "llama3"}}},
      {"rope_scaling", 3}};
  for (const auto& [key, value] : cases) {
    Json config = llama();
    config[key] = value;
    EXPECT_THROW(parse_model_config(config, "config.json"), Error) << key << " " << value;
  }
  for (const char* key : {"hidden_size", "vocab_size", "intermediate_size"}) {
    Json config = llama();
    config.erase(key);
    EXPECT_THAT([&] { parse_model_config(config, "config.json"); },
                ThrowsMessage<Error>(HasSubstr(key)));
  }
  EXPECT_THROW(parse_model_config(Json::array(), "config.json"), Error);
}

}  // namespace
}  // namespace narrow::checkpoint
