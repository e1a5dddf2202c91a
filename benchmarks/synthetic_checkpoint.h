// A model of any size without its files: random weights of a trained model's spread, made layer by
// layer as they are read. For measurements of speed only; its text means nothing.
#pragma once

#include "checkpoint/checkpoint.h"

namespace narrow::benchmarks {

// config.json of Llama-3.1-8B.
extern const Json kLlama8B;

class SyntheticCheckpoint : public checkpoint::Checkpoint {
 public:
  // config: a config.json. format: "bf16", "w8a8-fp", "w8a8-int", "w4a16-int" or "w4a16-awq".
  SyntheticCheckpoint(const Json& config, const std::string& format);

  const std::filesystem::path& path() const override { return path_; }
  const checkpoint::ModelConfig& config() const override { return config_; }
  const checkpoint::Documents& documents() const override { return documents_; }
  std::vector<std::string> tensor_names() const override { return {}; }
  bool contains(const std::string& name) const override;
  checkpoint::TensorInfo info(const std::string& name) const override;
  Tensor read(const std::string& name) const override;
  Scheme scheme(const std::string& module) const override;
  std::string fingerprint() const override { return "synthetic"; }

 private:
  std::vector<int64_t> shape_of(const std::string& module) const;  // [out, in]

  const std::filesystem::path path_ = "synthetic";
  const checkpoint::ModelConfig config_;
  const checkpoint::Documents documents_;
  const Scheme scheme_;
};

}  // namespace narrow::benchmarks
