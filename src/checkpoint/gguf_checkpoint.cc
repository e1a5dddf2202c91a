#include "checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numbers>

#include "base/hash.h"

namespace narrow::checkpoint {
namespace {

struct Rename {
  std::string_view gguf, hugging_face;
};

constexpr Rename kModelTensors[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};

constexpr Rename kLayerTensors[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty when it has no place.
std::string hugging_face_name(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view stem = name.substr(0, dot), suffix = name.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return {};
  for (const Rename& rename : kModelTensors)
    if (stem == rename.gguf) return std::string(rename.hugging_face) + std::string(suffix);
  if (!stem.starts_with("blk.")) return {};
  int64_t layer = -1;
  const char* end = stem.data() + stem.size();
  const auto [after, error] = std::from_chars(stem.data() + 4, end, layer);
  if (error != std::errc() || layer < 0 || after == end || *after != '.') return {};
  const std::string_view part(after + 1, static_cast<size_t>(end - after - 1));
  for (const Rename& rename : kLayerTensors) {
    if (part == rename.gguf)
      return "model.layers." + std::to_string(layer) + "." + std::string(rename.hugging_face) +
             std::string(suffix);
  }
  return {};
}

// llama.cpp's converter interleaves the two halves of each head's rows of q and k (architecture
// llama only), so that rope turns neighbours. Row (head, j, half) goes back to (head, half, j).
Tensor separate_halves(const Tensor& tensor, int64_t heads) {
  Tensor result(tensor.dtype(), tensor.shape());
  const int64_t rows = tensor.dim(0), half = rows / heads / 2;
  const auto row_bytes = static_cast<size_t>(tensor.size_bytes() / rows);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t j = 0; j < half; ++j) {
      for (int64_t side = 0; side < 2; ++side) {
        const auto from = static_cast<size_t>(head * 2 * half + 2 * j + side);
        const auto to = static_cast<size_t>(head * 2 * half + side * half + j);
        std::memcpy(result.data() + to * row_bytes, tensor.data() + from * row_bytes, row_bytes);
      }
    }
  }
  return result;
}

class GgufCheckpoint : public Checkpoint {
 public:
  explicit GgufCheckpoint(const std::filesystem::path& path)
      : path_(path), file_(InputFile(path)), documents_(gguf_documents(file_)) {
    const std::string where = path.string();
    const Json config = parse_json(documents_.config, where);
    config_ = parse_model_config(config, where);
    add_eos_ids(parse_json(documents_.generation_config, where), where, config_);
    for (const auto& [name, tensor] : file_.tensors()) {
      if (name == "rope_freqs.weight") {
        check_rope_divisors();
        continue;
      }
      const std::string renamed = hugging_face_name(name);
      if (renamed.empty()) {
        throw Error::refused(
            "tensor \"" + name + "\" has no place in a " + config_.family + " model", where);
      }
      if (!names_.emplace(renamed, name).second)
        throw Error::refused("two tensors become \"" + renamed + "\"", where);
      check_head_rows(renamed, tensor);
    }
  }

  const std::filesystem::path& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const Documents& documents() const override { return documents_; }

  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& item : names_) names.push_back(item.first);
    return names;
  }
  bool contains(const std::string& name) const override { return names_.count(name) > 0; }
  TensorInfo info(const std::string& name) const override {
    return {DType::bf16, file_.tensors().at(original(name)).shape};
  }
  Tensor read(const std::string& name) const override {
    Tensor tensor = file_.read(original(name));
    const int64_t heads = interleaved_heads(name);
    return heads > 0 ? separate_halves(tensor, heads) : tensor;
  }
  Scheme scheme(const std::string&) const override { return {}; }

  std::string fingerprint() const override {
    std::call_once(hashed_, [this] {
      Sha256 hash;
      // Not the file's own name: a renamed file is the same model.
      hash.add("model.gguf " + std::to_string(std::filesystem::file_size(path_)) + " " +
               sha256_file(path_) + "\n");
      fingerprint_ = hash.hex();
    });
    return fingerprint_;
  }

 private:
  const std::string& original(const std::string& name) const {
    const auto found = names_.find(name);
    if (found == names_.end()) throw Error::refused("no tensor \"" + name + "\"", path_.string());
    return found->second;
  }

  // Heads of a tensor whose rows are interleaved; 0 for all others.
  int64_t interleaved_heads(const std::string& name) const {
    if (config_.family != "llama") return 0;
    if (name.find(".q_proj.") != std::string::npos) return config_.heads;
    if (name.find(".k_proj.") != std::string::npos) return config_.kv_heads;
    return 0;
  }

  void check_head_rows(const std::string& name, const GgufTensor& tensor) const {
    const int64_t heads = interleaved_heads(name);
    if (heads > 0 && tensor.shape[0] != heads * config_.head_dim) {
      throw Error::refused("shape " + to_string(tensor.shape) + " does not hold " +
                               std::to_string(heads) + " heads of " +
                               std::to_string(config_.head_dim),
                           path_.string() + ": tensor " + name);
    }
  }

  // The divisors must be those of the rule that config.json states, or the model would compute
  // something else than its author meant.
  void check_rope_divisors() const {
    const Tensor stored = file_.read("rope_freqs.weight").to(DType::f32);
    const auto divisors = stored.as<float>();
    const RopeScaling scaling = config_.rope_scaling.value_or(RopeScaling{});
    const int64_t half = config_.head_dim / 2;
    bool equal = static_cast<int64_t>(divisors.size()) == half;
    for (int64_t i = 0; equal && i < half; ++i) {
      const double frequency =
          std::pow(config_.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
      const double turns =
          static_cast<double>(scaling.original_context_tokens) * frequency / (2 * std::numbers::pi);
      const double ramp = std::clamp(
          (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor),
          0.0, 1.0);
      const double expected = 1 / ((1 - ramp) / scaling.factor + ramp);
      const double tolerance = expected / 128;  // the tensor was rounded to bf16
      equal = std::fabs(divisors[static_cast<size_t>(i)] - expected) <= tolerance;
    }
    if (!equal)
      throw Error::refused("the rope divisors do not follow the llama3 rule",
                           path_.string() + ": tensor rope_freqs.weight");
  }

  const std::filesystem::path path_;
  const GgufFile file_;
  const Documents documents_;
  ModelConfig config_;
  std::map<std::string, std::string> names_;  // Hugging Face name to the file's
  mutable std::once_flag hashed_;
  mutable std::string fingerprint_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path) {
  return std::make_unique<GgufCheckpoint>(path);
}

}  // namespace narrow::checkpoint
