#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <deque>
#include <future>
#include <numeric>

#include "base/error.h"
#include "base/interrupt.h"

namespace narrow::model {

using checkpoint::ModelConfig;

namespace {

// Read side by side, and held in host memory at a time.
constexpr int64_t kLayersAhead = 4;

// Names memory in Backend::run.
uint64_t next_id() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

// 0, 1, 2, … count - 1.
bool all_in_order(std::span<const int32_t> rows, int64_t count) {
  if (static_cast<int64_t>(rows.size()) != count) return false;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i] != static_cast<int32_t>(i)) return false;
  return true;
}

}  // namespace

int64_t KvCache::bytes_per_block(const ModelConfig& config, const ops::Backend& backend) {
  const ops::KvShape shape{1, config.kv_heads, config.head_dim};
  return config.layers * shape.elements() * size_of(backend.kv_dtype());
}

KvCache::KvCache(const ModelConfig& config, ops::Backend& backend, int64_t blocks)
    : blocks_(blocks), id_(next_id()) {
  const ops::KvShape shape{blocks, config.kv_heads, config.head_dim};
  for (int64_t i = 0; i < config.layers; ++i)
    layers_.push_back(backend.allocate(shape.elements() * size_of(backend.kv_dtype())));
}

struct Decoder::State {
  State(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend, int64_t max_rows)
      : config(checkpoint.config()),
        backend(backend),
        max_rows(max_rows),
        workspace(config, backend, max_rows),
        rope(make_rope(config, backend, config.context_tokens)) {
    const Tensor embeddings = checkpoint.read("model.embed_tokens.weight");
    if (embeddings.shape() != std::vector<int64_t>{config.vocabulary, config.hidden}) {
      throw Error::refused("has shape " + to_string(embeddings.shape()),
                           checkpoint.path().string() + ", model.embed_tokens.weight",
                           "config.json asks for vocabulary × hidden");
    }
    embedding = backend.prepare(embeddings);
    // Some layers are read while the one before them is laid out.
    std::deque<std::future<LayerWeights>> ahead;
    for (int64_t i = 0, asked = 0; i < config.layers; ++i) {
      throw_if_interrupted();
      for (; asked < std::min(config.layers, i + kLayersAhead); ++asked)
        ahead.push_back(
            std::async(std::launch::async, [&, asked] { return read_layer(checkpoint, asked); }));
      const LayerWeights weights = ahead.front().get();
      ahead.pop_front();
      layers.push_back(std::make_unique<Layer>(config, weights, backend));
    }
    final_norm = backend.prepare(checkpoint.read("model.norm.weight"));
    PackedLinear head;
    if (config.tied_embeddings) {
      head.out = config.vocabulary;
      head.in = config.hidden;
      head.weight = embeddings;
    } else {
      head = checkpoint.read_linear("lm_head");
      if (head.out != config.vocabulary || head.in != config.hidden)
        throw Error::refused("lm_head does not fit vocabulary × hidden",
                             checkpoint.path().string());
    }
    lm_head = backend.prepare(std::span(&head, 1));
    hidden = backend.allocate(max_rows * config.hidden * size_of(backend.activation_dtype()));
    gathered = backend.allocate(max_rows * config.hidden * size_of(backend.activation_dtype()));
    gathered_pending =
        backend.allocate(max_rows * config.hidden * size_of(backend.activation_dtype()));
  }

  ops::Matrix matrix(const ops::DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
    return {buffer.data.get(), backend.activation_dtype(), rows, cols};
  }

  const ModelConfig config;
  ops::Backend& backend;
  const int64_t max_rows;
  const uint64_t id = next_id();
  uint64_t logits_id = 0;  // of device_logits
  Workspace workspace;
  Rope rope;
  ops::DeviceBuffer embedding, final_norm, hidden, gathered, gathered_pending, device_logits;
  std::vector<std::unique_ptr<Layer>> layers;
  std::unique_ptr<ops::Linear> lm_head;
};

Decoder::Decoder(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend, int64_t max_rows)
    : state_(std::make_unique<State>(checkpoint, backend, max_rows)) {}

Decoder::~Decoder() = default;

const ModelConfig& Decoder::config() const { return state_->config; }
ops::Backend& Decoder::backend() const { return state_->backend; }
int64_t Decoder::max_rows() const { return state_->max_rows; }

int64_t Decoder::weight_bytes() const {
  int64_t bytes = state_->lm_head->weight_bytes();
  for (const auto& layer : state_->layers) bytes += layer->weight_bytes();
  return bytes;
}

View<const float> Decoder::forward(ops::Batch batch, KvCache& kv,
                                   std::span<const int32_t> logit_rows) {
  run(std::move(batch), kv, logit_rows);
  return logits(0, static_cast<int64_t>(logit_rows.size()));
}

std::span<const ops::LogitSummary> Decoder::summaries(std::span<const int32_t> targets) {
  State& s = *state_;
  return s.backend.summarize_logits({s.device_logits.data.get(), DType::f32,
                                     static_cast<int64_t>(targets.size()), s.config.vocabulary},
                                    targets);
}

View<const float> Decoder::logits(int64_t first, int64_t count) {
  State& s = *state_;
  if (count == 0) {
    s.backend.synchronize();
    return {nullptr, 0, s.config.vocabulary};
  }
  const int64_t row_bytes = s.config.vocabulary * size_of(DType::f32);
  const auto bytes = s.backend.read_back(
      static_cast<const std::byte*>(s.device_logits.data.get()) + first * row_bytes,
      count * row_bytes);
  return {reinterpret_cast<const float*>(bytes.data()), count, s.config.vocabulary};
}

void Decoder::run(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows) {
  State& s = *state_;
  for (int32_t position : batch.positions) {
    if (position < 0 || position >= s.config.context_tokens)
      throw Error::failed("position " + std::to_string(position) + " is beyond the context of " +
                          std::to_string(s.config.context_tokens));
  }
  const int64_t rows = batch.rows();
  const auto wanted = static_cast<int64_t>(logit_rows.size());
  const int64_t bytes = wanted * s.config.vocabulary * size_of(DType::f32);
  if (s.device_logits.size_bytes < bytes) {
    s.device_logits = s.backend.allocate(bytes);
    s.logits_id = next_id();
  }
  const auto plan = s.backend.plan(std::move(batch));
  const ops::Matrix hidden = s.matrix(s.hidden, rows, s.config.hidden);
  ops::Matrix pending;  // what the last layer has yet to add to hidden
  const auto enqueue_layers = [&] {
    pending = {};
    s.backend.embed(*plan, s.embedding, hidden);
    for (int64_t i = 0; i < s.config.layers; ++i)
      pending = s.layers[static_cast<size_t>(i)]->forward_pending(*plan, s.rope, hidden, pending,
                                                                  kv.layer(i), s.workspace);
  };
  const auto enqueue_head = [&](ops::Matrix rows_of_hidden, ops::Matrix rows_pending) {
    const ops::Matrix normed = s.workspace.normed(wanted);
    s.backend.add_rms_norm(rows_of_hidden, rows_pending, s.final_norm,
                           static_cast<float>(s.config.rms_norm_epsilon), normed);
    s.backend.linear(*s.lm_head, normed,
                     {s.device_logits.data.get(), DType::f32, wanted, s.config.vocabulary});
  };
  if (wanted > 0 && all_in_order(logit_rows, rows)) {
    s.backend.run(*plan, std::array{s.id, kv.id(), s.logits_id}, [&] {
      enqueue_layers();
      enqueue_head(hidden, pending);
    });
  } else {
    enqueue_layers();
    if (wanted == 0) return s.backend.synchronize();
    const ops::Matrix gathered = s.matrix(s.gathered, wanted, s.config.hidden);
    const ops::Matrix gathered_pending = s.matrix(s.gathered_pending, wanted, s.config.hidden);
    s.backend.gather_rows(hidden, logit_rows, gathered);
    s.backend.gather_rows(pending, logit_rows, gathered_pending);
    enqueue_head(gathered, gathered_pending);
  }
}

void for_each_logits(Decoder& decoder, std::span<const int32_t> tokens,
                     const std::function<void(int64_t, View<const float>)>& sink) {
  // Rows at a time: at a vocabulary of 150 000 their logits are 77 MB.
  const int64_t chunk = std::min<int64_t>(128, decoder.max_rows());
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t blocks = (total + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens;
  KvCache kv(decoder.config(), decoder.backend(), blocks);
  for (int64_t first = 0; first < total; first += chunk) {
    throw_if_interrupted();
    const int64_t rows = std::min(chunk, total - first);
    ops::Batch batch;
    batch.tokens.assign(tokens.begin() + first, tokens.begin() + first + rows);
    batch.positions.resize(static_cast<size_t>(rows));
    std::iota(batch.positions.begin(), batch.positions.end(), static_cast<int32_t>(first));
    ops::Batch::Sequence sequence;
    sequence.rows = rows;
    sequence.context = first + rows;
    sequence.blocks.resize(
        static_cast<size_t>((sequence.context + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens));
    std::iota(sequence.blocks.begin(), sequence.blocks.end(), 0);
    batch.sequences.push_back(std::move(sequence));
    std::vector<int32_t> all(static_cast<size_t>(rows));
    std::iota(all.begin(), all.end(), 0);
    sink(first, decoder.forward(std::move(batch), kv, all));
  }
}

void log_softmax(std::span<float> logits) {
  float largest = -INFINITY;
  for (float logit : logits) largest = std::max(largest, logit);
  double total = 0;
  for (float logit : logits) total += std::exp(logit - largest);
  const auto shift = static_cast<float>(largest + std::log(total));
  for (float& logit : logits) logit -= shift;
}

}  // namespace narrow::model
