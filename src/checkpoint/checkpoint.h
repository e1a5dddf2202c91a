// One door for every file format: a Hugging Face directory (safetensors, sharded or not, plain or
// compressed-tensors) or a GGUF v3 file. Tensors have their Hugging Face names and layout whatever
// the file; GGUF blocks are dequantized to bf16. Nothing is trusted: sizes are checked before
// allocation, nothing outside the model directory is opened, every byte of the file is accounted
// for. Reading is const and may be done from several threads.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/model_config.h"
#include "tensor/packed_linear.h"
#include "tensor/tensor.h"

namespace narrow::checkpoint {

struct TensorInfo {
  DType dtype;
  std::vector<int64_t> shape;
};

// The documents beside the weights, as text; empty where the model has none. A GGUF file's are
// made from its metadata, equal in meaning to what Hugging Face publishes for the model.
struct Documents {
  std::string config;             // config.json
  std::string generation_config;  // generation_config.json
  std::string tokenizer;          // tokenizer.json
  std::string tokenizer_config;   // tokenizer_config.json
  std::string chat_template;      // chat_template.jinja, or tokenizer_config's "chat_template"
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const std::filesystem::path& path() const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const Documents& documents() const = 0;

  virtual std::vector<std::string> tensor_names() const = 0;  // sorted
  virtual bool contains(const std::string& name) const = 0;
  // Both throw Error::refused for an unknown name, naming file and tensor.
  virtual TensorInfo info(const std::string& name) const = 0;
  virtual Tensor read(const std::string& name) const = 0;

  // The scheme that quantization_config gives to `module` ("model.layers.0.mlp.up_proj").
  virtual Scheme scheme(const std::string& module) const = 0;
  // Whether scales of keys and values that are among the tensors are of a cache in 8-bit floating
  // numbers: kv_cache_scheme does not say otherwise.
  virtual bool kv_scales_are_fp8() const { return true; }
  // All stored tensors of one linear layer. Throws Error::refused when a tensor that the scheme
  // needs is missing or has another shape.
  PackedLinear read_linear(const std::string& module) const;

  // "bf16", "w8a8-fp", ... when all decoder linears share one scheme of that name; else "mixed".
  std::string format() const;
  // SHA-256 over (file name, size, SHA-256) of all files that decide what the model computes.
  virtual std::string fingerprint() const = 0;
};

// Throws Error::refused with what is wrong and what would be accepted.
std::unique_ptr<Checkpoint> open(const std::filesystem::path& path);

}  // namespace narrow::checkpoint
