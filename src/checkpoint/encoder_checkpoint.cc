#include "checkpoint/encoder_checkpoint.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/hf_checkpoint.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

// Far above any published encoder, far below what could overflow a product of two of them.
constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxHidden = 1 << 14;
constexpr int64_t kMaxHeads = 256;
constexpr int64_t kMaxIntermediate = 1 << 16;
constexpr int64_t kMaxVocabulary = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 16;  // attention takes memory linear, time quadratic in it
constexpr int64_t kMaxTokenTypes = 1 << 8;
constexpr int64_t kMaxDocumentBytes = int64_t{256} << 20;
constexpr const char* kPoolingFolder = "1_Pooling";

int64_t size_field(const Json& config, const char* key, const std::string& where, int64_t limit) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_number_integer())
    throw Error::refused(std::string("no whole number \"") + key + "\"", where);
  // A number above 63 bits reads as negative here and is refused like one.
  const auto value = found->get<int64_t>();
  if (value < 1 || value > limit)
    throw Error::refused(std::string("\"") + key + "\" is " + found->dump() + ", accepted: 1 to " +
                             std::to_string(limit),
                         where);
  return value;
}

bool is_there(const fs::path& path) {
  return fs::symlink_status(path).type() != fs::file_type::not_found;
}

std::string read_document(const fs::path& directory, const char* name, const fs::path& root) {
  const InputFile file = InputFile::beneath(directory, name, root);
  if (file.size_bytes() > kMaxDocumentBytes)
    throw Error::refused("larger than 256 MiB", file.path().string());
  std::string text(static_cast<size_t>(file.size_bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

// A length in tokens, cut to `longest`; tokenizers without one write 10³⁰.
int64_t length_field(const Json& document, const char* key, const std::string& where,
                     int64_t longest, int64_t fallback) {
  const auto found = document.is_object() ? document.find(key) : document.end();
  if (found == document.end() || found->is_null()) return fallback;
  if (!found->is_number() || !(found->get<double>() >= 3))
    throw Error::refused(std::string("\"") + key + "\" is no length of at least 3 tokens", where);
  return found->get<double>() >= static_cast<double>(longest) ? longest : found->get<int64_t>();
}

// "sentence_transformers.models.Pooling" → "Pooling"; its folders moved between versions.
std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

// Whether there is a pooling among the modules.
bool check_modules(const Json& modules, const std::string& where) {
  if (!modules.is_array()) throw Error::refused("not a list of modules", where);
  bool pooling = false;
  for (const Json& module : modules) {
    const auto type = last_part(json_get<std::string>(module, "type", where));
    const auto folder = json_get<std::string>(module, "path", where, "");
    const bool known = (type == "Transformer" && folder.empty()) || type == "Normalize" ||
                       (type == "Pooling" && folder == kPoolingFolder);
    if (!known)
      throw Error::refused("module \"" + type.substr(0, 32) + "\" is not supported", where,
                           "supported: Transformer, Pooling (mean), Normalize");
    pooling = pooling || type == "Pooling";
  }
  return pooling;
}

void check_pooling(const Json& pooling, const std::string& where) {
  if (!pooling.is_object()) throw Error::refused("not an object", where);
  bool mean = false;
  for (const auto& [key, value] : pooling.items()) {
    if (!key.starts_with("pooling_mode")) continue;
    const bool is_mean = key == "pooling_mode_mean_tokens" ||
                         (key == "pooling_mode" && value.is_string() && value == "mean");
    const bool chosen = value.is_string() || (value.is_boolean() && value.get<bool>());
    if (chosen && !is_mean)
      throw Error::refused("\"" + key.substr(0, 64) + "\" is not supported", where,
                           "sentence embeddings are the mean over the tokens");
    mean = mean || (chosen && is_mean);
  }
  if (!mean) throw Error::refused("no mean over the tokens", where);
}

}  // namespace

EncoderConfig parse_encoder_config(const Json& config, const std::string& where) {
  if (!config.is_object()) throw Error::refused("not a JSON object", where);
  EncoderConfig parsed;
  const auto family = json_get<std::string>(config, "model_type", where);
  if (family != "bert" && family != "roberta")
    throw Error::refused("encoder of model_type \"" + family.substr(0, 32) + "\" is not supported",
                         where, "supported: bert, roberta");
  parsed.family = family == "bert" ? EncoderConfig::Family::bert : EncoderConfig::Family::roberta;
  parsed.layers = size_field(config, "num_hidden_layers", where, kMaxLayers);
  parsed.hidden = size_field(config, "hidden_size", where, kMaxHidden);
  parsed.heads = size_field(config, "num_attention_heads", where, kMaxHeads);
  if (parsed.hidden % parsed.heads != 0)
    throw Error::refused("hidden_size is not a multiple of num_attention_heads", where);
  parsed.intermediate = size_field(config, "intermediate_size", where, kMaxIntermediate);
  parsed.vocabulary = size_field(config, "vocab_size", where, kMaxVocabulary);
  parsed.positions = size_field(config, "max_position_embeddings", where, kMaxPositions);
  parsed.token_types = size_field(config, "type_vocab_size", where, kMaxTokenTypes);
  parsed.norm_epsilon = json_get<double>(config, "layer_norm_eps", where, 1e-12);
  if (!(parsed.norm_epsilon > 0 && parsed.norm_epsilon < 1))
    throw Error::refused("\"layer_norm_eps\" is out of range", where);
  const int64_t padding = json_get<int64_t>(config, "pad_token_id", where,
                                            parsed.family == EncoderConfig::Family::bert ? 0 : 1);
  if (padding < 0 || padding >= parsed.vocabulary)
    throw Error::refused("\"pad_token_id\" is no id of the vocabulary", where);
  parsed.padding_id = static_cast<int32_t>(padding);
  constexpr int64_t kShortest = 3;  // begin, one token, end
  if (parsed.longest_input() < kShortest)
    throw Error::refused("\"max_position_embeddings\" leaves no room for a text", where);
  const auto activation = json_get<std::string>(config, "hidden_act", where, "gelu");
  if (activation != "gelu")
    throw Error::refused("hidden_act \"" + activation.substr(0, 32) + "\" is not supported", where,
                         "supported: gelu");
  const auto positions =
      json_get<std::string>(config, "position_embedding_type", where, "absolute");
  if (positions != "absolute")
    throw Error::refused("positions \"" + positions.substr(0, 32) + "\" are not supported", where,
                         "supported: absolute");
  for (const char* key : {"is_decoder", "add_cross_attention", "is_encoder_decoder"})
    if (json_get<bool>(config, key, where, false))
      throw Error::refused(std::string("\"") + key + "\" is not supported", where);
  return parsed;
}

EncoderCheckpoint::EncoderCheckpoint(const fs::path& directory) : path_(directory) {
  if (!fs::is_directory(path_))
    throw Error::refused("no folder", path_.string(),
                         "an encoder is a Hugging Face directory or a hub name");
  const fs::path root = link_root(path_);
  const std::string where = (path_ / "config.json").string();
  config_ =
      parse_encoder_config(parse_json(read_document(path_, "config.json", root), where), where);
  for (const char* name : {"tokenizer.json", "model.safetensors"}) {
    if (!is_there(path_ / name))
      throw Error::refused(std::string("no ") + name, path_.string(),
                           "an encoder needs both tokenizer.json and model.safetensors");
  }
  tokenizer_ = read_document(path_, "tokenizer.json", root);
  model_tokens_ = config_.longest_input();
  if (is_there(path_ / "tokenizer_config.json")) {
    const std::string place = (path_ / "tokenizer_config.json").string();
    tokenizer_config_ = read_document(path_, "tokenizer_config.json", root);
    model_tokens_ = length_field(parse_json(tokenizer_config_, place), "model_max_length", place,
                                 config_.longest_input(), model_tokens_);
  }
  read_sentence_files();
  weights_ =
      std::make_unique<SafetensorsFile>(InputFile::beneath(path_, "model.safetensors", root));
  const std::string family = config_.family == EncoderConfig::Family::bert ? "bert." : "roberta.";
  if (weights_->entries().contains(family + "embeddings.word_embeddings.weight")) prefix_ = family;
}

void EncoderCheckpoint::read_sentence_files() {
  const fs::path root = link_root(path_);
  sentence_tokens_ = model_tokens_;
  const auto document = [&](const fs::path& folder, const char* name) {
    const std::string place = (folder / name).string();
    return parse_json(read_document(folder, name, root), place);
  };
  if (is_there(path_ / "sentence_bert_config.json")) {
    const std::string place = (path_ / "sentence_bert_config.json").string();
    const Json config = document(path_, "sentence_bert_config.json");
    sentence_tokens_ =
        length_field(config, "max_seq_length", place, config_.longest_input(), model_tokens_);
    if (json_get<bool>(config, "do_lower_case", place, false))
      throw Error::refused("\"do_lower_case\" is not supported", place);
  }
  const fs::path pooling = path_ / kPoolingFolder;
  const bool pooled = is_there(pooling / "config.json");
  if (is_there(path_ / "modules.json")) {
    const std::string place = (path_ / "modules.json").string();
    if (check_modules(document(path_, "modules.json"), place) && !pooled)
      throw Error::refused(
          "names a pooling whose 1_Pooling/config.json is not there", place,
          "without it the kind of pooling is unknown: copy it from the model's page");
  }
  if (pooled) check_pooling(document(pooling, "config.json"), (pooling / "config.json").string());
}

std::string EncoderCheckpoint::name() const {
  const fs::path absolute = fs::canonical(path_);
  if (absolute.parent_path().filename() == "snapshots") {
    // models--FacebookAI--roberta-large/snapshots/<revision>
    const std::string repository = absolute.parent_path().parent_path().filename().string();
    const size_t at = repository.rfind("--");
    if (at != std::string::npos) return repository.substr(at + 2);
  }
  return absolute.filename().string();
}

Tensor EncoderCheckpoint::read(const std::string& name, const std::vector<int64_t>& shape) const {
  std::string full = prefix_ + name;
  // The oldest checkpoints call the two vectors of a norm gamma and beta.
  for (const auto& [now, before] : {std::pair{"LayerNorm.weight", "LayerNorm.gamma"},
                                    std::pair{"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (full.ends_with(now) && !weights_->entries().contains(full))
      full.replace(full.size() - std::string(now).size(), std::string::npos, before);
  }
  const std::string where = weights_->path().string() + ", " + full;
  const auto entry = weights_->entries().find(full);
  if (entry == weights_->entries().end()) throw Error::refused("no such tensor", where);
  if (entry->second.shape != shape)
    throw Error::refused("has shape " + to_string(entry->second.shape) + ", config.json asks for " +
                             to_string(shape),
                         where);
  if (entry->second.dtype != DType::f32 && entry->second.dtype != DType::f16 &&
      entry->second.dtype != DType::bf16)
    throw Error::refused("dtype " + entry->second.dtype_name + " is not supported", where,
                         "supported: F32, F16, BF16");
  return weights_->read(full).to(DType::f32);
}

std::string EncoderCheckpoint::fingerprint() const {
  Sha256 hash;
  for (const char* name : {"config.json", "model.safetensors", "sentence_bert_config.json",
                           "tokenizer.json", "tokenizer_config.json"}) {
    const fs::path file = path_ / name;
    if (!is_there(file)) continue;
    hash.add(std::string(name) + " " + std::to_string(fs::file_size(file)) + " " +
             sha256_file(file) + "\n");
  }
  return hash.hex();
}

}  // namespace narrow::checkpoint
