#include "checkpoint/model_config.h"

#include <algorithm>
#include <cmath>

namespace narrow::checkpoint {
namespace {

// Far above any published model, far below what could overflow a product of two of them.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1 << 17;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 20;
constexpr int64_t kMaxVocabulary = 1 << 22;
constexpr int64_t kMaxContext = 1 << 26;

int64_t checked_size(const Json& object, const char* key, const std::string& where, int64_t limit,
                     std::optional<int64_t> fallback = {}) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) {
    if (fallback) return *fallback;
    throw Error::refused(std::string("missing \"") + key + "\"", where);
  }
  if (!found->is_number_integer())
    throw Error::refused(std::string("\"") + key + "\" is not a whole number", where);
  // A number above 63 bits reads as negative here and is refused like one.
  const auto value = found->get<int64_t>();
  if (value < 1 || value > limit) {
    throw Error::refused(std::string("\"") + key + "\" is " + found->dump() + ", accepted: 1 to " +
                             std::to_string(limit),
                         where);
  }
  return value;
}

double checked_real(const Json& object, const char* key, const std::string& where, double low,
                    double high, std::optional<double> fallback = {}) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) {
    if (fallback) return *fallback;
    throw Error::refused(std::string("missing \"") + key + "\"", where);
  }
  if (!found->is_number())
    throw Error::refused(std::string("\"") + key + "\" is not a number", where);
  const auto value = found->get<double>();
  if (!(value >= low && value <= high))
    throw Error::refused(std::string("\"") + key + "\" is out of range: " + found->dump(), where);
  return value;
}

bool flag(const Json& object, const char* key, const std::string& where, bool fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  if (!found->is_boolean())
    throw Error::refused(std::string("\"") + key + "\" is not true or false", where);
  return found->get<bool>();
}

void refuse_if_set(const Json& object, const char* key, const std::string& where) {
  if (flag(object, key, where, false))
    throw Error::refused(std::string("\"") + key + "\" is not supported", where);
}

// The object of old ("rope_scaling", type and factor) and new ("rope_parameters" of transformers
// 5, which carries rope_theta as well) files.
void parse_rope(const Json& config, const std::string& where, ModelConfig& parsed) {
  constexpr double kMaxTheta = 1e12;
  parsed.rope_theta = checked_real(config, "rope_theta", where, 1, kMaxTheta, 10000);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    const std::string place = where + ": " + key;
    if (!found->is_object()) throw Error::refused("not an object", place);
    const Json& rope = *found;
    parsed.rope_theta = checked_real(rope, "rope_theta", place, 1, kMaxTheta, parsed.rope_theta);
    if (checked_real(rope, "partial_rotary_factor", place, 0, 1, 1) != 1)
      throw Error::refused("\"partial_rotary_factor\" other than 1 is not supported", place);
    const auto old_type = json_get<std::string>(rope, "type", place, "default");
    const auto type = json_get<std::string>(rope, "rope_type", place, old_type);
    if (type == "default") continue;
    RopeScaling scaling;
    scaling.factor = checked_real(rope, "factor", place, 1, 1e6);
    if (type == "llama3") {
      scaling.type = RopeScaling::Type::llama3;
      scaling.low_freq_factor = checked_real(rope, "low_freq_factor", place, 1e-3, 1e6);
      scaling.high_freq_factor = checked_real(rope, "high_freq_factor", place, 1e-3, 1e6);
      if (scaling.high_freq_factor <= scaling.low_freq_factor)
        throw Error::refused("\"high_freq_factor\" must exceed \"low_freq_factor\"", place);
      scaling.original_context_tokens =
          checked_size(rope, "original_max_position_embeddings", place, kMaxContext);
    } else if (type != "linear") {
      throw Error::refused("rope type \"" + type.substr(0, 32) + "\" is not supported", place,
                           "supported: default, linear, llama3");
    }
    parsed.rope_scaling = scaling;
  }
  if (checked_real(config, "partial_rotary_factor", where, 0, 1, 1) != 1)
    throw Error::refused("\"partial_rotary_factor\" other than 1 is not supported", where);
}

int32_t token_id(const Json& value, int64_t vocabulary, const char* key, const std::string& where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() >= vocabulary) {
    throw Error::refused(std::string("\"") + key + "\" is not an id of the vocabulary of " +
                             std::to_string(vocabulary),
                         where);
  }
  return value.get<int32_t>();
}

}  // namespace

void add_eos_ids(const Json& document, const std::string& where, ModelConfig& config) {
  const auto found = document.find("eos_token_id");
  if (found == document.end() || found->is_null()) return;
  constexpr size_t kMaxIds = 64;
  const Json list = found->is_array() ? *found : Json::array({*found});
  if (list.size() > kMaxIds) throw Error::refused("more than 64 in \"eos_token_id\"", where);
  for (const Json& item : list) {
    const int32_t id = token_id(item, config.vocabulary, "eos_token_id", where);
    if (std::find(config.eos_ids.begin(), config.eos_ids.end(), id) == config.eos_ids.end())
      config.eos_ids.push_back(id);
  }
}

ModelConfig parse_model_config(const Json& config, const std::string& where) {
  if (!config.is_object()) throw Error::refused("not a JSON object", where);
  ModelConfig parsed;
  parsed.family = json_get<std::string>(config, "model_type", where);
  if (parsed.family != "llama" && parsed.family != "qwen2") {
    throw Error::refused("model_type \"" + parsed.family.substr(0, 32) + "\" is not supported",
                         where, "supported: llama, qwen2");
  }
  parsed.layers = checked_size(config, "num_hidden_layers", where, kMaxLayers);
  parsed.hidden = checked_size(config, "hidden_size", where, kMaxHidden);
  parsed.heads = checked_size(config, "num_attention_heads", where, kMaxHeads);
  parsed.kv_heads = checked_size(config, "num_key_value_heads", where, kMaxHeads, parsed.heads);
  if (parsed.heads % parsed.kv_heads != 0) {
    throw Error::refused("num_attention_heads " + std::to_string(parsed.heads) +
                             " is not a multiple of num_key_value_heads " +
                             std::to_string(parsed.kv_heads),
                         where);
  }
  const auto head_dim = config.find("head_dim");
  if (head_dim == config.end() || head_dim->is_null()) {
    if (parsed.hidden % parsed.heads != 0)
      throw Error::refused("hidden_size is not a multiple of num_attention_heads", where);
    parsed.head_dim = parsed.hidden / parsed.heads;
    if (parsed.head_dim > kMaxHeadDim) throw Error::refused("heads wider than 1024", where);
  } else {
    parsed.head_dim = checked_size(config, "head_dim", where, kMaxHeadDim);
  }
  if (parsed.head_dim % 2 != 0) throw Error::refused("heads of an odd width", where);
  parsed.intermediate = checked_size(config, "intermediate_size", where, kMaxIntermediate);
  parsed.vocabulary = checked_size(config, "vocab_size", where, kMaxVocabulary);
  parsed.context_tokens = checked_size(config, "max_position_embeddings", where, kMaxContext);
  parsed.rms_norm_epsilon = checked_real(config, "rms_norm_eps", where, 0, 1, 1e-6);
  parse_rope(config, where, parsed);

  const auto activation = json_get<std::string>(config, "hidden_act", where, "silu");
  if (activation != "silu")
    throw Error::refused("hidden_act \"" + activation.substr(0, 32) + "\" is not supported", where);
  refuse_if_set(config, "mlp_bias", where);
  refuse_if_set(config, "use_sliding_window", where);
  refuse_if_set(config, "rope_interleaved", where);
  parsed.attention_bias =
      parsed.family == "qwen2" || flag(config, "attention_bias", where, /*fallback=*/false);
  parsed.tied_embeddings = flag(config, "tie_word_embeddings", where, /*fallback=*/false);
  add_eos_ids(config, where, parsed);
  const auto bos = config.find("bos_token_id");
  if (bos != config.end() && !bos->is_null())
    parsed.bos_id = token_id(*bos, parsed.vocabulary, "bos_token_id", where);
  return parsed;
}

int64_t ModelConfig::parameters() const {
  const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
  const int64_t attention = hidden * (2 * q + 2 * kv) + (attention_bias ? q + 2 * kv : 0);
  const int64_t mlp = 3 * hidden * intermediate;
  const int64_t norms = 2 * hidden;
  const int64_t embeddings = vocabulary * hidden * (tied_embeddings ? 1 : 2);
  return embeddings + layers * (attention + mlp + norms) + hidden;
}

}  // namespace narrow::checkpoint
