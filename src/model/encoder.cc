#include "model/encoder.h"

#include <algorithm>

#include "base/error.h"
#include "base/interrupt.h"
#include "model/encoder_ops.h"

namespace narrow::model {
namespace {

using checkpoint::EncoderCheckpoint;
using checkpoint::EncoderConfig;

struct Norm {
  Tensor gamma, beta;  // f32 [hidden]
};

Norm read_norm(const EncoderCheckpoint& checkpoint, const std::string& name) {
  const std::vector<int64_t> shape{checkpoint.config().hidden};
  return {checkpoint.read(name + ".weight", shape), checkpoint.read(name + ".bias", shape)};
}

PackedLinear read_linear(const EncoderCheckpoint& checkpoint, const std::string& name, int64_t out,
                         int64_t in) {
  PackedLinear linear;
  linear.out = out;
  linear.in = in;
  linear.weight = checkpoint.read(name + ".weight", {out, in});
  linear.bias = checkpoint.read(name + ".bias", {out});
  return linear;
}

struct EncoderLayer {
  EncoderLayer(const EncoderCheckpoint& checkpoint, int64_t index, ops::Backend& backend) {
    const EncoderConfig& config = checkpoint.config();
    const int64_t hidden = config.hidden;
    const std::string prefix = "encoder.layer." + std::to_string(index) + ".";
    const auto read = [&](const char* name, int64_t out, int64_t in) {
      return read_linear(checkpoint, prefix + name, out, in);
    };
    const PackedLinear inputs[] = {read("attention.self.query", hidden, hidden),
                                   read("attention.self.key", hidden, hidden),
                                   read("attention.self.value", hidden, hidden)};
    const PackedLinear output = read("attention.output.dense", hidden, hidden);
    const PackedLinear widening = read("intermediate.dense", config.intermediate, hidden);
    const PackedLinear narrowing = read("output.dense", hidden, config.intermediate);
    qkv = backend.prepare(inputs);
    attention_output = backend.prepare(std::span(&output, 1));
    up = backend.prepare(std::span(&widening, 1));
    down = backend.prepare(std::span(&narrowing, 1));
    attention_norm = read_norm(checkpoint, prefix + "attention.output.LayerNorm");
    output_norm = read_norm(checkpoint, prefix + "output.LayerNorm");
  }

  std::unique_ptr<ops::Linear> qkv, attention_output, up, down;
  Norm attention_norm, output_norm;
};

ops::Matrix matrix(Tensor& tensor) {
  return {tensor.data(), DType::f32, tensor.dim(0), tensor.dim(1)};
}

}  // namespace

struct Encoder::State {
  State(const EncoderCheckpoint& checkpoint, std::unique_ptr<ops::Backend> device, int threads)
      : config(checkpoint.config()), backend(std::move(device)), pool(threads) {
    if (backend->name() == "cuda")
      throw Error::refused("an encoder runs on the host, not on \"cuda\"", {},
                           "choose the backend cpu or reference");
    words =
        checkpoint.read("embeddings.word_embeddings.weight", {config.vocabulary, config.hidden});
    positions =
        checkpoint.read("embeddings.position_embeddings.weight", {config.positions, config.hidden});
    types = checkpoint.read("embeddings.token_type_embeddings.weight",
                            {config.token_types, config.hidden});
    embedding_norm = read_norm(checkpoint, "embeddings.LayerNorm");
    for (int64_t i = 0; i < config.layers; ++i) {
      throw_if_interrupted();
      layers.emplace_back(checkpoint, i, *backend);
    }
  }

  void normalize(Tensor& x, const Tensor* residual, const Norm& norm) {
    const View<const float> added = residual ? residual->matrix<float>() : View<const float>();
    add_layer_norm(x.matrix<float>(), added, norm.gamma.as<float>(), norm.beta.as<float>(),
                   config.norm_epsilon, pool);
  }

  Tensor embed(std::span<const int32_t> ids) {
    Tensor x(DType::f32, {static_cast<int64_t>(ids.size()), config.hidden});
    const auto rows = x.matrix<float>();
    const auto type = types.matrix<float>().row(0);
    int64_t next = config.first_position();
    for (int64_t t = 0; t < rows.rows; ++t) {
      const int32_t id = ids[static_cast<size_t>(t)];
      // RoBERTa's padding stays at the padding's place and does not count.
      const bool padding =
          config.family == EncoderConfig::Family::roberta && id == config.padding_id;
      const auto word = words.matrix<float>().row(id);
      const auto position = positions.matrix<float>().row(padding ? config.padding_id : next++);
      const auto row = rows.row(t);
      for (size_t i = 0; i < row.size(); ++i) row[i] = word[i] + type[i] + position[i];
    }
    normalize(x, nullptr, embedding_norm);
    return x;
  }

  const EncoderConfig config;
  std::unique_ptr<ops::Backend> backend;
  ThreadPool pool;
  Tensor words, positions, types;
  Norm embedding_norm;
  std::vector<EncoderLayer> layers;
};

Encoder::Encoder(const EncoderCheckpoint& checkpoint, std::unique_ptr<ops::Backend> backend,
                 int threads)
    : state_(std::make_unique<State>(checkpoint, std::move(backend), threads)) {}
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder::~Encoder() = default;

const EncoderConfig& Encoder::config() const { return state_->config; }

Tensor Encoder::forward(std::span<const int32_t> ids, int64_t layer) {
  State& s = *state_;
  const EncoderConfig& config = s.config;
  const auto tokens = static_cast<int64_t>(ids.size());
  if (tokens < 1 || tokens > config.longest_input())
    throw Error::refused(std::to_string(tokens) + " tokens, the encoder takes 1 to " +
                         std::to_string(config.longest_input()));
  for (int32_t id : ids)
    if (id < 0 || id >= config.vocabulary)
      throw Error::refused("token " + std::to_string(id) + " is not in the encoder's vocabulary",
                           {}, "tokenizer.json and config.json are of two models");
  if (layer < 0 || layer > config.layers)
    throw Error::refused("no layer " + std::to_string(layer) + ", the encoder has " +
                         std::to_string(config.layers));
  Tensor x = s.embed(ids);
  Tensor qkv(DType::f32, {tokens, 3 * config.hidden}), mixed(DType::f32, {tokens, config.hidden}),
      out(DType::f32, {tokens, config.hidden}), wide(DType::f32, {tokens, config.intermediate});
  for (int64_t i = 0; i < layer; ++i) {
    const EncoderLayer& weights = s.layers[static_cast<size_t>(i)];
    s.backend->linear(*weights.qkv, matrix(x), matrix(qkv));
    attend_both_ways(std::as_const(qkv).matrix<float>(), config.heads, mixed.matrix<float>(),
                     s.pool);
    s.backend->linear(*weights.attention_output, matrix(mixed), matrix(out));
    s.normalize(x, &out, weights.attention_norm);
    s.backend->linear(*weights.up, matrix(x), matrix(wide));
    gelu(wide.matrix<float>(), s.pool);
    s.backend->linear(*weights.down, matrix(wide), matrix(out));
    s.normalize(x, &out, weights.output_norm);
  }
  return x;
}

}  // namespace narrow::model
