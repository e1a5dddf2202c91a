#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <future>

#include <fmt/format.h>

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

Tensor read_embeddings(const checkpoint::Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  Tensor embeddings = checkpoint.read("model.embed_tokens.weight");
  if (embeddings.shape() != std::vector<int64_t>{config.vocabulary, config.hidden}) {
    throw Error::refused("has shape " + to_string(embeddings.shape()),
                         checkpoint.path().string() + ", model.embed_tokens.weight",
                         "config.json asks for vocabulary × hidden");
  }
  return embeddings;
}

PackedLinear read_head(const checkpoint::Checkpoint& checkpoint) {
  PackedLinear head = checkpoint.read_linear("lm_head");
  if (head.out != checkpoint.config().vocabulary || head.in != checkpoint.config().hidden)
    throw Error::refused("lm_head does not fit vocabulary × hidden", checkpoint.path().string());
  return head;
}

}  // namespace

int64_t KvCache::bytes_per_block(const ModelConfig& config, const ops::Backend& backend,
                                 std::optional<DType> dtype) {
  const ops::KvShape shape{1, config.kv_heads, config.head_dim};
  return config.layers * shape.elements() * size_of(dtype.value_or(backend.kv_dtype()));
}

KvCache::KvCache(const ModelConfig& config, ops::Backend& backend, int64_t blocks,
                 std::optional<DType> dtype)
    : blocks_(blocks), id_(next_id()) {
  const DType numbers = dtype.value_or(backend.kv_dtype());
  if (!backend.runs_kv(numbers)) {
    throw Error::refused(fmt::format("the {} backend keeps no keys and values in {}",
                                     backend.name(), name_of(numbers)),
                         "KV cache", "use --kv-cache-dtype auto");
  }
  const ops::KvShape shape{blocks, config.kv_heads, config.head_dim};
  for (int64_t i = 0; i < config.layers; ++i) {
    layers_.push_back(backend.allocate(shape.elements() * size_of(numbers)));
    layers_.back().dtype = numbers;
  }
}

struct Decoder::State {
  State(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend, int64_t max_rows,
        int64_t usual_logit_rows)
      : config(checkpoint.config()),
        backend(backend),
        max_rows(max_rows),
        workspace(config, backend, max_rows) {
    const auto read_ahead = [](auto read) { return std::async(std::launch::async, read); };
    // Beside the layers, by one thread each: the rotary tables and the two largest tensors.
    auto rope_ahead = read_ahead([this] { return make_rope_table(config, config.context_tokens); });
    auto embeddings_ahead = read_ahead([&] { return read_embeddings(checkpoint); });
    std::future<PackedLinear> head_ahead;
    if (!config.tied_embeddings) head_ahead = read_ahead([&] { return read_head(checkpoint); });
    // Some layers are read while the one before them is laid out.
    std::deque<std::future<LayerWeights>> ahead;
    for (int64_t i = 0, asked = 0; i < config.layers; ++i) {
      throw_if_interrupted();
      for (; asked < std::min(config.layers, i + kLayersAhead); ++asked)
        ahead.push_back(read_ahead([&, asked] { return read_layer(checkpoint, asked); }));
      const LayerWeights weights = ahead.front().get();
      ahead.pop_front();
      layers.push_back(std::make_unique<Layer>(config, weights, backend));
    }
    rope = prepare_rope(rope_ahead.get(), backend);
    final_norm = backend.prepare(checkpoint.read("model.norm.weight"));
    PackedLinear head;
    {
      const Tensor embeddings = embeddings_ahead.get();
      embedding = backend.prepare(embeddings);
      if (config.tied_embeddings) {
        head.out = config.vocabulary;
        head.in = config.hidden;
        head.weight = embeddings;
      } else {
        head = head_ahead.get();
      }
    }
    lm_head = backend.prepare(std::span(&head, 1));
    ops::DecoderParts parts{{},
                            layers.front()->shape(),
                            static_cast<float>(config.rms_norm_epsilon),
                            &final_norm,
                            lm_head.get()};
    for (const auto& layer : layers) parts.layers.push_back(layer->parts());
    whole = backend.prepare_decoder(parts);
    chosen = backend.allocate(max_rows * size_of(DType::i32));
    hidden = backend.allocate(max_rows * config.hidden * size_of(backend.activation_dtype()));
    gathered = backend.allocate(max_rows * config.hidden * size_of(backend.activation_dtype()));
    make_room_for_logits(std::min(usual_logit_rows, max_rows));
  }

  void make_room_for_logits(int64_t rows) {
    device_logits = backend.allocate(rows * config.vocabulary * size_of(DType::f32));
    logit_room = rows;
    logits_id = next_id();
  }

  void enqueue(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows);

  ops::Matrix matrix(const ops::DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
    return {buffer.data.get(), backend.activation_dtype(), rows, cols};
  }

  const ModelConfig config;
  ops::Backend& backend;
  const int64_t max_rows;
  const uint64_t id = next_id();
  uint64_t logits_id = 0;  // of device_logits
  int64_t logit_room = 0;  // its rows
  Workspace workspace;
  Rope rope;
  ops::DeviceBuffer embedding, final_norm, hidden, gathered, device_logits;
  ops::DeviceBuffer chosen;  // i32 [max_rows]: of the logit rows of the last step that had any
  int64_t choices = 0;       // such rows
  std::deque<std::unique_ptr<ops::PendingSummaries>> in_flight;  // of steps, oldest first
  std::unique_ptr<ops::PendingSummaries> finished;               // what finish() returned last
  std::vector<std::unique_ptr<Layer>> layers;
  std::unique_ptr<ops::Linear> lm_head;
  std::unique_ptr<ops::PreparedDecoder> whole;  // null: operation by operation
};

Decoder::Decoder(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend, int64_t max_rows,
                 int64_t usual_logit_rows)
    : state_(std::make_unique<State>(checkpoint, backend, max_rows, usual_logit_rows)) {}

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
  enqueue(std::move(batch), kv, logit_rows);
  return logits(0, static_cast<int64_t>(logit_rows.size()));
}

ops::Matrix Decoder::enqueue(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows) {
  State& s = *state_;
  s.enqueue(std::move(batch), kv, logit_rows);
  return {s.device_logits.data.get(), DType::f32, static_cast<int64_t>(logit_rows.size()),
          s.config.vocabulary};
}

void Decoder::start(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows,
                    std::span<const ops::LogitQuery> queries) {
  State& s = *state_;
  for (int32_t source : batch.token_sources)
    if (source >= s.choices)
      throw Error::failed("no token was chosen at row " + std::to_string(source) + " of logits");
  const ops::Matrix logits = enqueue(std::move(batch), kv, logit_rows);
  s.in_flight.push_back(s.backend.summarize_logits(logits, queries, s.chosen));
  if (logits.rows > 0) s.choices = logits.rows;
}

std::span<const ops::LogitSummary> Decoder::finish() {
  State& s = *state_;
  s.finished = std::move(s.in_flight.front());
  s.in_flight.pop_front();
  return s.finished->wait();
}

void Decoder::abandon() {
  state_->in_flight.clear();
  state_->finished.reset();
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

void Decoder::State::enqueue(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows) {
  for (int32_t position : batch.positions) {
    if (position < 0 || position >= config.context_tokens)
      throw Error::failed("position " + std::to_string(position) + " is beyond the context of " +
                          std::to_string(config.context_tokens));
  }
  const int64_t rows = batch.rows();
  const auto wanted = static_cast<int64_t>(logit_rows.size());
  if (logit_room < wanted) {
    // In doublings: a device gives memory back only when it has nothing to do.
    int64_t room = logit_room;
    while (room < wanted) room *= 2;
    make_room_for_logits(std::max(wanted, std::min(room, max_rows)));
  }
  const auto plan = backend.plan(std::move(batch));
  const ops::Matrix states = matrix(hidden, rows, config.hidden);
  const ops::Matrix logits{device_logits.data.get(), DType::f32, wanted, config.vocabulary};
  const auto enqueue_layers = [&](int64_t count) {
    backend.embed(*plan, embedding, chosen, states);
    for (int64_t i = 0; i < count; ++i)
      layers[static_cast<size_t>(i)]->forward(*plan, rope, states, kv.layer(i), workspace);
  };
  const auto enqueue_head = [&](ops::Matrix rows_of_hidden) {
    backend.norm_linear(rows_of_hidden, final_norm, static_cast<float>(config.rms_norm_epsilon),
                        workspace.normed(wanted), *lm_head, logits);
  };
  if (wanted > 0 && all_in_order(logit_rows, rows)) {
    backend.run(*plan, std::array{id, kv.id(), logits_id}, [&] {
      if (whole && backend.runs_decoder(*plan)) {
        backend.embed(*plan, embedding, chosen, states);
        backend.run_decoder(*whole, *plan, rope.cosine, rope.sine, kv.layers(), states, logits);
        return;
      }
      enqueue_layers(config.layers);
      enqueue_head(states);
    });
    return;
  }
  // What the last layer does behind its keys and values reaches the logits of its own row alone.
  const int64_t last = config.layers - 1;
  std::unique_ptr<ops::Plan> some_plan;
  if (wanted > 0) some_plan = backend.plan(ops::rows_of(plan->batch(), logit_rows));
  const ops::Matrix some = matrix(gathered, wanted, config.hidden);
  enqueue_layers(last);
  layers.back()->forward_rows(*plan, rope, states, kv.layer(last), workspace, logit_rows,
                              some_plan.get(), some);
  if (wanted > 0) enqueue_head(some);
}

}  // namespace narrow::model
