#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/fit.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace narrow::engine {
namespace {

using endpoint::FinishReason;
using ops::kKvBlockTokens;
int64_t blocks_for(int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

Options with_defaults(Options options, const ops::EngineDefaults& defaults) {
  if (options.max_batch <= 0) options.max_batch = defaults.sequences;
  if (options.max_step_tokens <= 0) options.max_step_tokens = defaults.step_tokens;
  if (!options.plan_ahead) options.plan_ahead = defaults.plan_ahead;
  return options;
}

// Throws Error::refused, saying what would fit, when loading broke and the weights do not.
model::Decoder load(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend,
                    const Options& options) {
  const int64_t free = backend.free_bytes();
  try {
    return {checkpoint, backend, options.max_step_tokens, /*usual_logit_rows=*/options.max_batch};
  } catch (const Error& error) {
    const Scheme scheme = checkpoint.scheme("model.layers.0.self_attn.q_proj");
    const int64_t needed =
        weight_bytes(checkpoint.config(), scheme.weights ? scheme.weights->bits : 16);
    if (error.kind() != Error::Kind::failed || needed < free) throw;
    throw Error::refused(
        fmt::format("the weights need {:.1f} GiB, {:.1f} are free",
                    static_cast<double>(needed) / 0x1p30, static_cast<double>(free) / 0x1p30),
        checkpoint.path().string(), formats_that_fit(checkpoint.config(), free));
  }
}

}  // namespace

struct Engine::State {
  State(std::unique_ptr<checkpoint::Checkpoint> opened, const Options& given)
      : backend(ops::make_backend(given.backend, given.threads)),
        options(with_defaults(given, backend->engine_defaults())),
        checkpoint(std::move(opened)),
        tokenizer_ahead(std::async(std::launch::async,
                                   [this] {
                                     const auto& documents = checkpoint->documents();
                                     return text::Tokenizer::from_json(documents.tokenizer,
                                                                       documents.tokenizer_config);
                                   })),
        decoder(load(*checkpoint, *backend, options)),
        tokenizer(tokenizer_ahead.get()) {
    if (!checkpoint->documents().chat_template.empty())
      chat = std::make_unique<text::ChatTemplate>(checkpoint->documents().chat_template);
    const checkpoint::ModelConfig& config = checkpoint->config();
    if (options.max_context <= 0 || options.max_context > config.context_tokens)
      options.max_context = config.context_tokens;
    const int64_t block_bytes = model::KvCache::bytes_per_block(config, *backend, options.kv_dtype);
    const int64_t one_context = blocks_for(options.max_context);
    const int64_t kv_bytes =
        options.kv_bytes > 0 ? options.kv_bytes : backend->engine_defaults().kv_bytes;
    int64_t blocks = kv_bytes / block_bytes;
    if (options.kv_bytes <= 0) blocks = std::max(one_context, blocks);
    blocks = std::max<int64_t>(1, std::min(blocks, one_context * options.max_batch));
    if (blocks * block_bytes > backend->free_bytes()) {
      throw Error::refused(
          fmt::format("the KV cache of {} tokens needs {:.1f} GiB, {:.1f} GiB are free",
                      blocks * kKvBlockTokens, static_cast<double>(blocks * block_bytes) / 0x1p30,
                      static_cast<double>(backend->free_bytes()) / 0x1p30),
          checkpoint->path().string(),
          context_that_fits(block_bytes, backend->free_bytes() / 10 * 9));
    }
    kv = std::make_unique<model::KvCache>(config, *backend, blocks, options.kv_dtype);
    scheduler = std::make_unique<Scheduler>(options, blocks);
    stats = scheduler->stats;
    std::string described = backend->describe();
    if (options.kv_dtype) described += fmt::format(", KV cache in {}", name_of(*options.kv_dtype));
    info = {checkpoint->path().string(), checkpoint->format(), described, options.max_context,
            options.max_batch, backend->format_notes(),
            // Nothing goes on from the last token of a continuation: it takes no place.
            options.max_context + 1};
    log::debug("{} on {}: {:.0f} MiB of weights a token, KV cache of {} tokens", info.format,
               info.backend, static_cast<double>(decoder.weight_bytes()) / 0x1p20,
               blocks * kKvBlockTokens);
    thread = std::thread([this] { run(); });
  }

  ~State() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    thread.join();
  }

  // Why a request cannot run at all; empty when it can.
  std::string refusal(const std::vector<int32_t>& tokens, int64_t total) const {
    if (tokens.empty()) return "the prompt is empty";
    for (int32_t id : tokens) {
      if (id < 0 || id >= checkpoint->config().vocabulary)
        return fmt::format("token {} is outside the vocabulary of {}", id,
                           checkpoint->config().vocabulary);
    }
    if (total > options.max_context)
      return fmt::format("{} tokens exceed the context of {}", total, options.max_context);
    if (blocks_for(total) > scheduler->total_blocks())
      return fmt::format("{} tokens exceed the KV cache of {}", total,
                         scheduler->total_blocks() * kKvBlockTokens);
    return {};
  }

  void submit(SequencePtr sequence) {
    // On the caller's thread: the engine's has a device to keep busy.
    if (options.prefix_cache) extend_hashes(*sequence);
    {
      std::lock_guard lock(mutex);
      incoming.push_back(std::move(sequence));
    }
    wake.notify_all();
  }

  void run() {
    std::string failed;  // as `failure`, which others read
    while (true) {
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] {
          return stopping || !incoming.empty() || !scheduler->empty() || !in_flight.empty();
        });
        for (SequencePtr& sequence : incoming) scheduler->add(std::move(sequence));
        incoming.clear();
        if (stopping) break;
      }
      if (failed.empty()) {
        try {
          drop_cancelled();
          advance();
          continue;
        } catch (const std::exception& error) {
          failed = error.what();
        }
        // Before any request ends with it.
        std::lock_guard lock(mutex);
        failure = failed;
      }
      fail_all(FinishReason::error, failed);
    }
    fail_all(FinishReason::cancelled, "the engine was stopped");
  }

  // Starts the next step while the one before it runs, then takes the results of that one: the
  // device has work while the host looks at results and plans.
  void advance() {
    fault_point("engine.step", "engine");
    std::optional<Step> step = scheduler->plan(/*ahead=*/!in_flight.empty());
    size_t left_running = 0;
    if (step) {
      if (*options.plan_ahead && !step->host_reads) left_running = 1;
      if (!in_flight.empty()) ++scheduler->stats.steps_ahead;
      in_flight.push_back(*std::move(step));
      Step& started = in_flight.back();
      decoder.start(std::move(started.batch), *kv, started.logit_rows, started.queries);
    }
    while (in_flight.size() > left_running) take_results();
  }

  // Of the oldest step.
  void take_results() {
    Step& step = in_flight.front();
    const std::span<const ops::LogitSummary> summaries = decoder.finish();
    const auto now = endpoint::Clock::now();
    int64_t row = 0;
    for (const Step::Part& part : step.parts) {
      Sequence& sequence = *part.sequence;
      if (sequence.ended) {
        row += part.end - part.first_logits;
        scheduler->stats.dropped_rows += part.rows;
        continue;
      }
      scheduler->publish(part);
      (part.rows == 1 && sequence.generation() ? scheduler->stats.generated_tokens
                                               : scheduler->stats.prompt_tokens) += part.rows;
      for (int64_t position = part.first_logits; position < part.end; ++position, ++row)
        use_logits(sequence, position, row, summaries[static_cast<size_t>(row)], now);
    }
    ++scheduler->stats.steps;
    {
      std::lock_guard lock(mutex);
      stats = scheduler->stats;
    }
    end_done();
    for (SequencePtr& sequence : step.left) scheduler->release(*sequence);
    in_flight.pop_front();
  }

  void fail_all(FinishReason reason, const std::string& what) {
    decoder.abandon();
    for (Step& step : in_flight)
      for (SequencePtr& sequence : step.left) scheduler->release(*sequence);
    in_flight.clear();
    for (SequencePtr& sequence : scheduler->remove(true, [](Sequence&) { return true; })) {
      scheduler->release(*sequence);
      end(*sequence, reason, what);
    }
  }

  static void end(Sequence& sequence, FinishReason reason, const std::string& what) {
    if (Generation* generation = sequence.generation()) {
      generation->result.finish = reason;
      generation->result.error = what;
      generation->result.timings.finished = endpoint::Clock::now();
      generation->promise.set_value(std::move(generation->result));
    } else {
      Scoring& scoring = *sequence.scoring();
      scoring.result.error = what;
      scoring.promise.set_value(std::move(scoring.result));
    }
  }

  // Its blocks and the sequence itself are kept until no step names them.
  void leave(SequencePtr sequence) {
    sequence->ended = true;
    if (in_flight.empty()) {
      scheduler->release(*sequence);
    } else {
      in_flight.back().left.push_back(std::move(sequence));
    }
  }

  void drop_cancelled() {
    const auto cancelled = [](Sequence& sequence) {
      Generation* generation = sequence.generation();
      return generation && generation->request.cancel.stop_requested();
    };
    for (SequencePtr& sequence : scheduler->remove(/*waiting=*/true, cancelled)) {
      end(*sequence, FinishReason::cancelled, "");
      leave(std::move(sequence));
    }
  }

  void end_done() {
    const auto done = [](Sequence& sequence) {
      if (Scoring* scoring = sequence.scoring())
        return scoring->result.tokens.size() >= scoring->request.continuation.size();
      return sequence.done;
    };
    for (SequencePtr& sequence : scheduler->remove(/*waiting=*/false, done)) {
      if (Scoring* scoring = sequence->scoring()) {
        scoring->promise.set_value(std::move(scoring->result));
      } else {
        Generation& generation = *sequence->generation();
        generation.result.timings.finished = endpoint::Clock::now();
        generation.promise.set_value(std::move(generation.result));
      }
      leave(std::move(sequence));
    }
  }

  // The `count` best tokens and their log-probabilities. row: of the step's logits, read whole only
  // where a summary has not so many.
  std::vector<std::pair<int32_t, double>> alternatives(int64_t count, int64_t row,
                                                       const ops::LogitSummary& summary) {
    std::vector<std::pair<int32_t, double>> list;
    if (!fit_summary(count)) {
      const std::span<const float> logits = decoder.logits(row, 1).row(0);
      for (const int32_t id : ops::best(logits, count))
        list.emplace_back(id, logits[static_cast<size_t>(id)] - summary.log_sum_exp);
      return list;
    }
    for (int64_t i = 0; i < std::min(count, checkpoint->config().vocabulary); ++i) {
      const ops::TokenLogit& best = summary.best[static_cast<size_t>(i)];
      list.emplace_back(best.id, best.logit - summary.log_sum_exp);
    }
    return list;
  }

  void use_logits(Sequence& sequence, int64_t position, int64_t row,
                  const ops::LogitSummary& summary, endpoint::Clock::time_point now) {
    if (Scoring* scoring = sequence.scoring()) {
      // Computed again after a preemption: scored already.
      const auto scored = static_cast<int64_t>(scoring->result.tokens.size());
      if (position < sequence.first_needed() + scored) return;
      const int32_t next = sequence.tokens[static_cast<size_t>(position + 1)];
      scoring->result.tokens.push_back({next, summary.target - summary.log_sum_exp,
                                        alternatives(scoring->request.top, row, summary)});
      scoring->result.greedy.push_back(summary.argmax == next);
      return;
    }
    Generation& generation = *sequence.generation();
    if (std::isnan(summary.target)) {
      generation.result.finish = FinishReason::error;
      generation.result.error = "the model's logits are no numbers";
      sequence.done = true;
      return;
    }
    const endpoint::Sampling& sampling = generation.request.sampling;
    const int32_t id = summary.chosen;
    if (sampling.logprobs > 0) {
      generation.result.logprobs.push_back({id, summary.chosen_logit - summary.log_sum_exp,
                                            alternatives(sampling.logprobs, row, summary)});
    }
    generation.result.timings.tokens.push_back(now);
    sequence.tokens.push_back(id);
    --sequence.pending;
    sequence.done = accept_token(generation, id, checkpoint->config().eos_ids);
  }

  std::unique_ptr<ops::Backend> backend;
  Options options;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint;
  std::future<text::Tokenizer> tokenizer_ahead;  // made while weights are read
  model::Decoder decoder;
  text::Tokenizer tokenizer;
  std::unique_ptr<text::ChatTemplate> chat;
  std::unique_ptr<model::KvCache> kv;
  std::unique_ptr<Scheduler> scheduler;  // of the engine's thread, once that runs
  std::deque<Step> in_flight;            // started, their results not taken; oldest first
  endpoint::Info info;

  std::mutex mutex;  // guards what follows up to `thread`
  std::condition_variable wake;
  std::vector<SequencePtr> incoming;
  bool stopping = false;
  Stats stats;
  std::string failure;
  std::thread thread;
};

Engine::Engine(const std::filesystem::path& model, const Options& options)
    : Engine(checkpoint::open(model), options) {}
Engine::Engine(std::unique_ptr<checkpoint::Checkpoint> checkpoint, const Options& options)
    : state_(std::make_unique<State>(std::move(checkpoint), options)) {}
Engine::~Engine() = default;

const endpoint::Info& Engine::info() const { return state_->info; }
std::string Engine::fingerprint() const { return state_->checkpoint->fingerprint(); }
const text::Tokenizer& Engine::tokenizer() const { return state_->tokenizer; }
const text::ChatTemplate* Engine::chat_template() const { return state_->chat.get(); }
int64_t Engine::weight_bytes() const { return state_->decoder.weight_bytes(); }

Stats Engine::stats() const {
  std::lock_guard lock(state_->mutex);
  return state_->stats;
}

std::string Engine::failure() const {
  std::lock_guard lock(state_->mutex);
  return state_->failure;
}

std::future<endpoint::GenerateResult> Engine::generate(endpoint::GenerateRequest request,
                                                       endpoint::TokenSink sink) {
  auto sequence = std::make_unique<Sequence>(
      Sequence{.work = Generation{.request = std::move(request),
                                  .sink = std::move(sink),
                                  .promise = {},
                                  .result = {},
                                  .decoder = text::StreamDecoder(state_->tokenizer)}});
  Generation& generation = *sequence->generation();
  generation.result.id = generation.request.id;
  generation.result.timings.sent = endpoint::Clock::now();
  generation.result.prompt_tokens = static_cast<int64_t>(generation.request.prompt.size());
  sequence->tokens = generation.request.prompt;
  auto future = generation.promise.get_future();
  const endpoint::Sampling& sampling = generation.request.sampling;
  std::string refusal = state_->refusal(
      sequence->tokens, static_cast<int64_t>(sequence->tokens.size()) + sampling.max_tokens);
  if (sampling.max_tokens < 1) refusal = "max_tokens must be at least 1";
  for (const std::string& stop : sampling.stop)
    if (stop.empty()) refusal = "a stop string is empty";
  if (refusal.empty()) {
    state_->submit(std::move(sequence));
  } else {
    generation.result.refused = true;
    State::end(*sequence, FinishReason::error, refusal);
  }
  return future;
}

std::future<endpoint::ScoreResult> Engine::score(endpoint::ScoreRequest request) {
  auto sequence = std::make_unique<Sequence>(
      Sequence{.work = Scoring{.request = std::move(request), .promise = {}, .result = {}}});
  Scoring& scoring = *sequence->scoring();
  scoring.result.id = scoring.request.id;
  sequence->tokens = scoring.request.context;
  sequence->tokens.insert(sequence->tokens.end(), scoring.request.continuation.begin(),
                          scoring.request.continuation.end());
  auto future = scoring.promise.get_future();
  std::string refusal = state_->refusal(sequence->tokens, sequence->target());
  if (scoring.request.context.empty())
    refusal = "the context is empty: nothing predicts the first token";
  if (!refusal.empty()) {
    State::end(*sequence, FinishReason::error, refusal);
  } else if (scoring.request.continuation.empty()) {
    scoring.promise.set_value(std::move(scoring.result));
  } else {
    state_->submit(std::move(sequence));
  }
  return future;
}

}  // namespace narrow::engine
