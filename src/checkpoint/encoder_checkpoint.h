// A text encoder on disk, as Hugging Face and sentence-transformers publish BERT and RoBERTa:
// config.json, model.safetensors (one file), tokenizer.json, and where there are any
// tokenizer_config.json, sentence_bert_config.json, modules.json and 1_Pooling/config.json. It
// stands beside Checkpoint, which is decoders. Nothing is trusted: sizes are checked before
// allocation and nothing outside the directory is opened. Immutable; threads may share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "tensor/tensor.h"

namespace narrow::checkpoint {

struct EncoderConfig {
  enum class Family { bert, roberta };

  Family family = Family::bert;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;  // divides hidden
  int64_t intermediate = 0;
  int64_t vocabulary = 0;
  int64_t positions = 0;  // rows of the position table
  int64_t token_types = 0;
  double norm_epsilon = 1e-12;
  int32_t padding_id = 0;

  // Position of the first token: RoBERTa's count from padding_id + 1.
  int64_t first_position() const { return family == Family::roberta ? padding_id + 1 : 0; }
  int64_t longest_input() const { return positions - first_position(); }  // tokens
};

// `where` names the file. Throws Error::refused for other families, activations than GELU (erf),
// relative positions, decoders, and sizes out of range.
EncoderConfig parse_encoder_config(const Json& config, const std::string& where);

class EncoderCheckpoint {
 public:
  // Throws Error::refused with what is wrong: a file that is missing, sentence pooling other than
  // the mean, layers behind the pooling that change the embedding.
  explicit EncoderCheckpoint(const std::filesystem::path& directory);

  const std::filesystem::path& path() const { return path_; }
  const EncoderConfig& config() const { return config_; }
  // The texts of the documents; the latter empty where there is none.
  const std::string& tokenizer() const { return tokenizer_; }
  const std::string& tokenizer_config() const { return tokenizer_config_; }

  // Tokens, special ones included, that inputs are cut at, never more than the positions hold:
  // tokenizer_config.json's model_max_length, and for sentence embeddings sentence_bert_config's
  // max_seq_length before it.
  int64_t model_tokens() const { return model_tokens_; }
  int64_t sentence_tokens() const { return sentence_tokens_; }
  // The name that config.json or a hub cache's folder gives ("roberta-large"), else the folder's.
  std::string name() const;

  // f32, whatever the file has. `name` without the prefix ("bert.", "roberta.") that checkpoints
  // with a head have. Throws Error::refused for a tensor that is missing or of another shape.
  Tensor read(const std::string& name, const std::vector<int64_t>& shape) const;

  // SHA-256 over (file name, size, SHA-256) of config, weights and tokenizer.
  std::string fingerprint() const;

 private:
  void read_sentence_files();

  std::filesystem::path path_;
  EncoderConfig config_;
  std::string tokenizer_, tokenizer_config_;
  int64_t model_tokens_ = 0, sentence_tokens_ = 0;
  std::unique_ptr<SafetensorsFile> weights_;
  std::string prefix_;
};

}  // namespace narrow::checkpoint
