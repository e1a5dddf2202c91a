#include "synthetic_checkpoint.h"

#include <cstring>
#include <random>

#include "base/error.h"

namespace narrow::benchmarks {

const Json kLlama8B = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"hidden_size", 4096},
                       {"intermediate_size", 14336},
                       {"num_hidden_layers", 32},
                       {"num_attention_heads", 32},
                       {"num_key_value_heads", 8},
                       {"head_dim", 128},
                       {"vocab_size", 128256},
                       {"max_position_embeddings", 8192},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 500000.0},
                       {"hidden_act", "silu"},
                       {"tie_word_embeddings", false}};

namespace {

// A million random numbers, repeated: enough to be incompressible for a memory system, made in no
// time. seed: of each tensor another, else a gate is what it lets pass, and a query its own key.
template <class T, class Make>
Tensor repeated(DType dtype, std::vector<int64_t> shape, uint32_t seed, Make make) {
  Tensor tensor(dtype, std::move(shape));
  const auto values = tensor.as<T>();
  std::mt19937 random(seed);
  constexpr size_t kPeriod = 1'000'003;
  for (size_t i = 0; i < std::min(kPeriod, values.size()); ++i) values[i] = make(random);
  for (size_t done = kPeriod; done < values.size(); done += kPeriod)
    std::memcpy(values.data() + done, values.data(),
                std::min(kPeriod, values.size() - done) * sizeof(T));
  return tensor;
}

Tensor normals(DType dtype, std::vector<int64_t> shape, uint32_t seed, float mean, float spread) {
  std::normal_distribution<float> distribution(mean, spread);
  if (dtype == DType::f8_e4m3)
    return repeated<f8_e4m3>(dtype, std::move(shape), seed,
                             [&](auto& random) { return to_f8_e4m3(distribution(random)); });
  return repeated<bf16>(dtype, std::move(shape), seed,
                        [&](auto& random) { return to_bf16(distribution(random)); });
}

uint32_t seed_of(const std::string& name) {
  std::seed_seq sequence(name.begin(), name.end());
  uint32_t seed = 0;
  sequence.generate(&seed, &seed + 1);
  return seed;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// A token a number, so that whatever is generated has a text.
std::string numbers_as_tokenizer(int64_t vocabulary) {
  SortedJson vocab = SortedJson::object();
  for (int64_t i = 0; i < vocabulary; ++i) vocab["t" + std::to_string(i)] = i;
  return SortedJson{{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
                    {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                    {"decoder", {{"type", "ByteLevel"}}}}
      .dump();
}

constexpr float kSpread = 0.02f;  // of a trained weight, about

}  // namespace

SyntheticCheckpoint::SyntheticCheckpoint(const Json& config, const std::string& format)
    : config_(checkpoint::parse_model_config(config, "synthetic")),
      documents_{config.dump(), {}, numbers_as_tokenizer(config_.vocabulary), {}, {}},
      scheme_(scheme_of_format(format)) {}

std::vector<int64_t> SyntheticCheckpoint::shape_of(const std::string& module) const {
  const int64_t q = config_.heads * config_.head_dim, kv = config_.kv_heads * config_.head_dim;
  if (ends_with(module, "q_proj")) return {q, config_.hidden};
  if (ends_with(module, "k_proj") || ends_with(module, "v_proj")) return {kv, config_.hidden};
  if (ends_with(module, "o_proj")) return {config_.hidden, q};
  if (ends_with(module, "gate_proj") || ends_with(module, "up_proj"))
    return {config_.intermediate, config_.hidden};
  if (ends_with(module, "down_proj")) return {config_.hidden, config_.intermediate};
  if (ends_with(module, "norm") || ends_with(module, "layernorm")) return {config_.hidden};
  return {config_.vocabulary, config_.hidden};  // lm_head, embed_tokens
}

Scheme SyntheticCheckpoint::scheme(const std::string& module) const {
  return ends_with(module, "_proj") ? scheme_ : Scheme{};
}

bool SyntheticCheckpoint::contains(const std::string& name) const {
  const size_t dot = name.rfind('.');
  const std::string module = name.substr(0, dot), tensor = name.substr(dot + 1);
  const Scheme of_module = scheme(module);
  if (tensor == "weight") return of_module.dense() || of_module.weights->bits == 8;
  if (of_module.dense()) return false;
  const bool packed = of_module.weights->bits != 8;
  if (tensor == "weight_scale") return true;
  if (tensor == "weight_packed" || tensor == "weight_shape") return packed;
  return tensor == "weight_zero_point" && !of_module.weights->symmetric;
}

checkpoint::TensorInfo SyntheticCheckpoint::info(const std::string& name) const {
  const Tensor tensor = read(name);
  return {tensor.dtype(), tensor.shape()};
}

Tensor SyntheticCheckpoint::read(const std::string& name) const {
  if (!contains(name)) throw Error::refused("no such tensor", "synthetic, " + name);
  const size_t dot = name.rfind('.');
  const std::string module = name.substr(0, dot), tensor = name.substr(dot + 1);
  const auto shape = shape_of(module);
  const uint32_t seed = seed_of(name);
  if (shape.size() == 1) return normals(DType::bf16, shape, seed, 1, 0.05f);
  const Scheme of_module = scheme(module);
  if (of_module.dense()) return normals(DType::bf16, shape, seed, 0, kSpread);
  const QuantArgs& args = *of_module.weights;
  const int64_t groups =
      args.strategy == QuantArgs::Strategy::group ? shape[1] / args.group_size : 1;
  if (tensor == "weight_scale") {
    // The largest of a row is about four spreads.
    const float grid = args.type == QuantArgs::Type::floating ? 448.0f
                       : args.bits == 8                       ? 127.5f
                                                              : 7.5f;
    return normals(DType::bf16, {shape[0], groups}, seed, 4 * kSpread / grid,
                   0.1f * kSpread / grid);
  }
  if (tensor == "weight_packed")
    return repeated<int32_t>(DType::i32, {shape[0], shape[1] / 8}, seed,
                             [](auto& random) { return static_cast<int32_t>(random()); });
  if (tensor == "weight_zero_point")
    return repeated<int32_t>(DType::i32, {shape[0] / 8, groups}, seed,
                             [](auto& random) { return static_cast<int32_t>(random()); });
  if (tensor == "weight_shape") {
    Tensor value(DType::i64, {2});
    value.as<int64_t>()[0] = shape[0];
    value.as<int64_t>()[1] = shape[1];
    return value;
  }
  if (args.type == QuantArgs::Type::floating)
    return normals(DType::f8_e4m3, shape, seed, 0, 448.0f / 4);
  std::normal_distribution<float> codes(0, 127.5f / 4);
  return repeated<int8_t>(DType::i8, shape, seed, [&](auto& random) {
    return static_cast<int8_t>(std::clamp(codes(random), -128.0f, 127.0f));
  });
}

}  // namespace narrow::benchmarks
