// The inference engine as an Endpoint: paged KV cache with a prefix cache, continuous batching,
// chunked prefill mixed with decode, tokens drawn on the device. One thread runs the steps, on a
// device planning each while the one before it runs; generate() and score() may be called from any.
// A request's result never depends on its neighbours. A step that fails ends the engine: after an
// error a device may compute nothing any more, and what the step left half done is not gone on
// with. Requests under way and later ones end with that error.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "endpoint/endpoint.h"
#include "model/decoder.h"

namespace narrow::engine {

struct Options {
  std::string backend = "auto";
  int threads = 0;
  // 0: what suits the backend (ops::EngineDefaults).
  int64_t max_batch = 0;               // sequences running at once
  int64_t max_step_tokens = 0;         // rows of a step: prefill is cut into chunks of at most this
  int64_t kv_bytes = 0;                // at most what max_batch contexts need
  int64_t max_context = 0;             // 0: the model's
  std::optional<DType> kv_dtype = {};  // of the KV cache; by default the backend's
  bool prefix_cache = true;
  // Whether a step is planned and started while the one before it runs. Results are the same.
  std::optional<bool> plan_ahead = {};
};

struct Stats {
  int64_t steps = 0;
  int64_t steps_ahead = 0;    // of them, started while the one before ran
  int64_t prompt_tokens = 0;  // computed, cached ones not counted
  int64_t cached_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t dropped_rows = 0;  // computed after an end that was not foreseen, or a cancellation
  int64_t preemptions = 0;
  int64_t peak_blocks = 0;
  int64_t total_blocks = 0;
};

class Engine : public endpoint::Endpoint {
 public:
  // Loads the model. Throws Error::refused when it does not fit, saying what would.
  Engine(const std::filesystem::path& model, const Options& options);
  Engine(std::unique_ptr<checkpoint::Checkpoint> checkpoint, const Options& options);
  ~Engine() override;  // cancels what is in flight

  const endpoint::Info& info() const override;
  std::string fingerprint() const override;
  const text::Tokenizer& tokenizer() const override;
  const text::ChatTemplate* chat_template() const override;
  std::string failure() const override;
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink sink = {}) override;
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override;

  Stats stats() const;
  int64_t weight_bytes() const;  // read per decode step

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::engine
