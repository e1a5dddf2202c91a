#include <fmt/format.h>

#include <cstdlib>

#include "base/json.h"
#include "checkpoint/gguf_checkpoint.h"

namespace narrow::checkpoint {
namespace {

// tokenizer.ggml.token_type
enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

std::string required_text(const GgufFile& file, const std::string& key) {
  if (auto value = file.text(key)) return *value;
  throw Error::refused("missing metadata \"" + key + "\"", file.path().string());
}

int64_t required_integer(const GgufFile& file, const std::string& key) {
  if (const auto value = file.integer(key)) return *value;
  throw Error::refused("missing metadata \"" + key + "\"", file.path().string());
}

// GGUF keeps floats in 32 bits: 1e-05 comes back as 9.99999974e-06. The shortest decimal that
// gives the same float is what the model's author wrote.
double as_written(double value) {
  return std::strtod(fmt::format("{}", static_cast<float>(value)).c_str(), nullptr);
}

double required_real(const GgufFile& file, const std::string& key) {
  if (const auto value = file.real(key)) return as_written(*value);
  throw Error::refused("missing metadata \"" + key + "\"", file.path().string());
}

std::string dump(const Json& document, const GgufFile& file) {
  try {
    return document.dump(2) + "\n";
  } catch (const nlohmann::json::exception&) {
    throw Error::refused("a text in the metadata is not UTF-8", file.path().string());
  }
}

Json optional_id(const GgufFile& file, const std::string& key) {
  const auto id = file.integer(key);
  return id ? Json(*id) : Json(nullptr);
}

int64_t vocabulary_size(const GgufFile& file) {
  const auto found = file.tensors().find("token_embd.weight");
  if (found == file.tensors().end() || found->second.shape.size() != 2)
    throw Error::refused("no matrix token_embd.weight", file.path().string());
  return found->second.shape[0];
}

// Llama 3.1 files carry the rope divisors as a tensor instead of the rule they come from. The rule
// has one free number in published models, `factor`, which is the largest divisor.
Json llama3_scaling(const GgufFile& file) {
  const Tensor divisors = file.read("rope_freqs.weight").to(DType::f32);
  float factor = 1;
  for (float divisor : divisors.as<float>()) factor = std::max(factor, divisor);
  return {{"factor", factor},
          {"high_freq_factor", 4.0},
          {"low_freq_factor", 1.0},
          {"original_max_position_embeddings", 8192},
          {"rope_type", "llama3"}};
}

Json rope_scaling(const GgufFile& file, const std::string& prefix) {
  const std::string type = file.text(prefix + "rope.scaling.type").value_or("none");
  if (file.tensors().count("rope_freqs.weight")) return llama3_scaling(file);
  if (type == "none") return nullptr;
  if (type == "linear")
    return {{"factor", required_real(file, prefix + "rope.scaling.factor")},
            {"rope_type", "linear"}};
  throw Error::refused("rope scaling \"" + type.substr(0, 32) + "\" is not supported",
                       file.path().string());
}

Json make_config(const GgufFile& file) {
  const std::string arch = required_text(file, "general.architecture");
  if (arch != "llama" && arch != "qwen2")
    throw Error::refused("architecture \"" + arch.substr(0, 32) + "\" is not supported",
                         file.path().string(), "supported: llama, qwen2");
  const std::string prefix = arch + ".";
  const int64_t hidden = required_integer(file, prefix + "embedding_length");
  const int64_t heads = required_integer(file, prefix + "attention.head_count");
  if (heads <= 0 || hidden <= 0)
    throw Error::refused("head_count and embedding_length must be positive", file.path().string());
  const int64_t head_dim = file.integer(prefix + "attention.key_length").value_or(hidden / heads);
  if (file.integer(prefix + "rope.dimension_count").value_or(head_dim) != head_dim)
    throw Error::refused("rope on a part of the head is not supported", file.path().string());
  if (file.integer(prefix + "expert_count").value_or(0) != 0)
    throw Error::refused("mixtures of experts are not supported", file.path().string());
  Json config;
  config["architectures"] = {arch == "llama" ? "LlamaForCausalLM" : "Qwen2ForCausalLM"};
  config["attention_bias"] = arch == "qwen2" || file.tensors().count("blk.0.attn_q.bias") > 0;
  config["bos_token_id"] = optional_id(file, "tokenizer.ggml.bos_token_id");
  config["eos_token_id"] = optional_id(file, "tokenizer.ggml.eos_token_id");
  config["head_dim"] = head_dim;
  config["hidden_act"] = "silu";
  config["hidden_size"] = hidden;
  config["intermediate_size"] = required_integer(file, prefix + "feed_forward_length");
  config["max_position_embeddings"] = required_integer(file, prefix + "context_length");
  config["mlp_bias"] = false;
  config["model_type"] = arch;
  config["num_attention_heads"] = heads;
  config["num_hidden_layers"] = required_integer(file, prefix + "block_count");
  config["num_key_value_heads"] = file.integer(prefix + "attention.head_count_kv").value_or(heads);
  config["rms_norm_eps"] = required_real(file, prefix + "attention.layer_norm_rms_epsilon");
  config["rope_scaling"] = rope_scaling(file, prefix);
  config["rope_theta"] = as_written(file.real(prefix + "rope.freq_base").value_or(10000));
  config["tie_word_embeddings"] = file.tensors().count("output.weight") == 0;
  config["torch_dtype"] = "bfloat16";
  config["use_cache"] = true;
  config["vocab_size"] = vocabulary_size(file);
  return config;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
};

Vocabulary read_vocabulary(const GgufFile& file) {
  Vocabulary vocabulary;
  auto tokens = file.texts("tokenizer.ggml.tokens");
  auto types = file.integers("tokenizer.ggml.token_type");
  if (!tokens || !types || tokens->size() != types->size())
    throw Error::refused("tokenizer.ggml.tokens and token_type are missing or differ in length",
                         file.path().string());
  if (static_cast<int64_t>(tokens->size()) > vocabulary_size(file))
    throw Error::refused("more tokens than rows of token_embd.weight", file.path().string());
  return {std::move(*tokens), std::move(*types)};
}

Json byte_level(bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Json split_then_byte_level(const char* pattern) {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({split, byte_level(/*trim_offsets=*/false,
                                                           /*use_regex=*/false)})}};
}

// What llama.cpp's pre-tokenizer names stand for in the models that carry them.
Json pre_tokenizer(const std::string& name, const GgufFile& file) {
  if (name == "smollm") {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {{"type", "Sequence"},
            {"pretokenizers",
             Json::array({digits, byte_level(/*trim_offsets=*/true, /*use_regex=*/true)})}};
  }
  if (name == "qwen2") {
    return split_then_byte_level(
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  }
  if (name == "llama-bpe") {
    return split_then_byte_level(
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  }
  if (name == "gpt-2" || name == "default")
    return byte_level(/*trim_offsets=*/true, /*use_regex=*/true);
  throw Error::refused("pre-tokenizer \"" + name.substr(0, 32) + "\" is not supported",
                       file.path().string(), "supported: smollm, qwen2, llama-bpe, gpt-2");
}

std::string token_at(const Vocabulary& vocabulary, int64_t id, const GgufFile& file) {
  if (id < 0 || id >= static_cast<int64_t>(vocabulary.tokens.size()))
    throw Error::refused("special token id " + std::to_string(id) + " is outside the vocabulary",
                         file.path().string());
  return vocabulary.tokens[static_cast<size_t>(id)];
}

bool adds_bos(const GgufFile& file, const std::string& pre) {
  return file.flag("tokenizer.ggml.add_bos_token").value_or(pre == "llama-bpe");
}

// encode(text) starts with BOS.
Json bos_template(const std::string& bos, int64_t id) {
  const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const auto sequence = [](const char* which, int type) {
    return Json{{"Sequence", {{"id", which}, {"type_id", type}}}};
  };
  const Json second = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special, sequence("A", 0)})},
          {"pair", Json::array({special, sequence("A", 0), second, sequence("B", 1)})},
          {"special_tokens",
           {{bos, {{"id", bos}, {"ids", Json::array({id})}, {"tokens", Json::array({bos})}}}}}};
}

Json make_tokenizer(const GgufFile& file, const Vocabulary& vocabulary) {
  const std::string model = required_text(file, "tokenizer.ggml.model");
  if (model != "gpt2") {
    throw Error::refused("tokenizer model \"" + model.substr(0, 32) + "\" is not supported",
                         file.path().string(),
                         "byte-level BPE (\"gpt2\") is; use the Hugging Face directory instead");
  }
  const std::string pre = file.text("tokenizer.ggml.pre").value_or("default");
  const auto merges = file.texts("tokenizer.ggml.merges");
  if (!merges) throw Error::refused("no tokenizer.ggml.merges", file.path().string());

  Json vocab = Json::object(), added = Json::array();
  // Straight into the underlying list: looking a key up in an ordered object is linear.
  auto& entries = vocab.get_ref<Json::object_t&>();
  entries.reserve(vocabulary.tokens.size());
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int64_t type = vocabulary.types[i];
    if (type == kUnused) continue;  // padding rows of the embedding
    const std::string& token = vocabulary.tokens[i];
    entries.emplace_back(token, static_cast<int64_t>(i));
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    added.push_back({{"id", static_cast<int64_t>(i)},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type != kUserDefined}});
  }
  Json post = nullptr;
  const auto bos = file.integer("tokenizer.ggml.bos_token_id");
  if (bos && adds_bos(file, pre)) post = bos_template(token_at(vocabulary, *bos, file), *bos);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", pre == "qwen2" ? Json{{"type", "NFC"}} : Json(nullptr)},
          {"pre_tokenizer", pre_tokenizer(pre, file)},
          {"post_processor", post},
          {"decoder",
           {{"type", "ByteLevel"},
            {"add_prefix_space", true},
            {"trim_offsets", true},
            {"use_regex", true}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", pre == "llama-bpe"},
            {"vocab", std::move(vocab)},
            {"merges", *merges}}}};
}

Json make_tokenizer_config(const GgufFile& file, const Vocabulary& vocabulary) {
  const std::string pre = file.text("tokenizer.ggml.pre").value_or("default");
  Json config;
  config["add_bos_token"] = adds_bos(file, pre);
  config["add_prefix_space"] = false;
  const std::pair<const char*, const char*> specials[] = {
      {"bos_token", "tokenizer.ggml.bos_token_id"},
      {"eos_token", "tokenizer.ggml.eos_token_id"},
      {"pad_token", "tokenizer.ggml.padding_token_id"},
      {"unk_token", "tokenizer.ggml.unknown_token_id"}};
  for (const auto& [name, key] : specials)
    if (const auto id = file.integer(key)) config[name] = token_at(vocabulary, *id, file);
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config;
}

Json make_generation_config(const GgufFile& file) {
  Json config;
  config["bos_token_id"] = optional_id(file, "tokenizer.ggml.bos_token_id");
  const auto eos = file.integer("tokenizer.ggml.eos_token_id");
  const auto end_of_turn = file.integer("tokenizer.ggml.eot_token_id");
  Json ids = Json::array();
  if (eos) ids.push_back(*eos);
  if (end_of_turn && end_of_turn != eos) ids.push_back(*end_of_turn);
  config["eos_token_id"] = ids.size() == 1 ? ids[0] : ids;
  config["pad_token_id"] = optional_id(file, "tokenizer.ggml.padding_token_id");
  return config;
}

}  // namespace

Documents gguf_documents(const GgufFile& file) {
  Documents documents;
  const Json config = make_config(file);
  documents.config = dump(config, file);
  documents.generation_config = dump(make_generation_config(file), file);
  const Vocabulary vocabulary = read_vocabulary(file);
  documents.tokenizer = dump(make_tokenizer(file, vocabulary), file);
  documents.tokenizer_config = dump(make_tokenizer_config(file, vocabulary), file);
  documents.chat_template = file.text("tokenizer.chat_template").value_or("");
  return documents;
}

}  // namespace narrow::checkpoint
