// What a decoder is made of, read from a Hugging Face config.json (or made from GGUF metadata).
// Every field is checked on reading: sizes positive and within limits, heads dividing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace narrow::checkpoint {

struct RopeScaling {
  // "llama3": low frequencies divided by `factor`, with a smooth ramp between (Llama 3.1).
  // "linear": positions divided by `factor`.
  enum class Type { linear, llama3 };
  Type type = Type::linear;
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_context_tokens = 8192;
};

struct ModelConfig {
  std::string family;  // config.json "model_type": "llama", "qwen2"
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  int64_t vocabulary = 0;
  int64_t context_tokens = 0;  // max_position_embeddings
  double rms_norm_epsilon = 1e-5;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  bool attention_bias = false;  // q, k, v carry a bias (Qwen2 always)
  bool tied_embeddings = false;
  std::vector<int32_t> eos_ids;  // config.json and generation_config.json together
  std::optional<int32_t> bos_id;

  int64_t parameters() const;  // of the decoder, embeddings counted once when tied
};

// Throws Error::refused naming the field; `where` names the file.
ModelConfig parse_model_config(const Json& config, const std::string& where);

// Adds the "eos_token_id" (a number or a list) of config.json or generation_config.json, each id
// once. Throws Error::refused for ids outside the vocabulary.
void add_eos_ids(const Json& document, const std::string& where, ModelConfig& config);

}  // namespace narrow::checkpoint
