#include "engine/engine.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_set>

#include "base/error.h"
#include "base/log.h"
#include "engine/block_pool.h"
#include "engine/sampler.h"
#include "engine/sequence.h"

namespace narrow::engine {
namespace {

using endpoint::FinishReason;
using ops::kKvBlockTokens;
using SequencePtr = std::unique_ptr<Sequence>;

int64_t blocks_for(int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// Of a step: at a vocabulary of 150 000 their logits are 600 MB.
constexpr int64_t kMostLogitRows = 1024;

Options with_defaults(Options options, const ops::EngineDefaults& defaults) {
  if (options.max_batch <= 0) options.max_batch = defaults.sequences;
  if (options.max_step_tokens <= 0) options.max_step_tokens = defaults.step_tokens;
  return options;
}

}  // namespace

struct Engine::State {
  State(std::unique_ptr<checkpoint::Checkpoint> opened, const Options& given)
      : backend(ops::make_backend(given.backend, given.threads)),
        options(with_defaults(given, backend->engine_defaults())),
        checkpoint(std::move(opened)),
        tokenizer(text::Tokenizer::from_json(checkpoint->documents().tokenizer,
                                             checkpoint->documents().tokenizer_config)),
        decoder(*checkpoint, *backend, options.max_step_tokens) {
    if (!checkpoint->documents().chat_template.empty())
      chat = std::make_unique<text::ChatTemplate>(checkpoint->documents().chat_template);
    const checkpoint::ModelConfig& config = checkpoint->config();
    if (options.max_context <= 0 || options.max_context > config.context_tokens)
      options.max_context = config.context_tokens;
    const int64_t block_bytes = model::KvCache::bytes_per_block(config, *backend);
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
          checkpoint->path().string(), "use a smaller --max-context");
    }
    kv = std::make_unique<model::KvCache>(config, *backend, blocks);
    pool = std::make_unique<BlockPool>(blocks);
    stats.total_blocks = blocks;
    info = {checkpoint->path().string(), checkpoint->format(), backend->describe(),
            checkpoint->fingerprint(),   options.max_context,  options.max_batch};
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
    if (blocks_for(total) > pool->total())
      return fmt::format("{} tokens exceed the KV cache of {}", total,
                         pool->total() * kKvBlockTokens);
    return {};
  }

  void submit(SequencePtr sequence) {
    // On the caller's thread: the engine's has a device to keep busy.
    if (options.prefix_cache) extend_hashes(*sequence);
    {
      std::lock_guard lock(mutex);
      sequence->arrival = arrivals++;
      incoming.push_back(std::move(sequence));
    }
    wake.notify_all();
  }

  void run() {
    while (true) {
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] {
          return stopping || !incoming.empty() || !waiting.empty() || !running.empty();
        });
        for (SequencePtr& sequence : incoming) waiting.push_back(std::move(sequence));
        incoming.clear();
        if (stopping) break;
      }
      try {
        drop_cancelled();
        admit();
        step();
      } catch (const std::exception& error) {
        fail_all(FinishReason::error, error.what());
      }
    }
    fail_all(FinishReason::cancelled, "the engine was stopped");
  }

  void fail_all(FinishReason reason, const std::string& what) {
    for (SequencePtr& sequence : running) {
      release(*sequence);
      end(*sequence, reason, what);
    }
    for (SequencePtr& sequence : waiting) end(*sequence, reason, what);
    running.clear();
    waiting.clear();
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

  void drop_cancelled() {
    const auto cancelled = [&](SequencePtr& sequence) {
      Generation* generation = sequence->generation();
      if (!generation || !generation->request.cancel.stop_requested()) return false;
      release(*sequence);
      end(*sequence, FinishReason::cancelled, "");
      return true;
    };
    std::erase_if(running, cancelled);
    std::erase_if(waiting, cancelled);
  }

  void release(Sequence& sequence) {
    for (int32_t block : sequence.blocks) pool->release(block);
    sequence.blocks.clear();
    sequence.computed = 0;
    sequence.published = 0;
  }

  static void extend_hashes(Sequence& sequence) {
    const int64_t full = static_cast<int64_t>(sequence.tokens.size()) / kKvBlockTokens;
    while (static_cast<int64_t>(sequence.hashes.size()) < full) {
      const BlockHash previous = sequence.hashes.empty() ? BlockHash() : sequence.hashes.back();
      const int64_t first = static_cast<int64_t>(sequence.hashes.size()) * kKvBlockTokens;
      sequence.hashes.push_back(
          block_hash(previous, sequence.tokens.data() + first, kKvBlockTokens));
    }
  }

  // First token whose logits are needed: everything from here on must be computed, cached or not.
  static int64_t first_needed(Sequence& sequence) {
    if (Scoring* scoring = sequence.scoring())
      return static_cast<int64_t>(scoring->request.context.size()) - 1;
    return static_cast<int64_t>(sequence.tokens.size()) - 1;
  }

  // Moves waiting sequences into the batch while there is room and the next step has rows for them:
  // one that waits longer finds more of its prompt computed. A sequence whose next block another
  // one is computing right now waits for it: the choices of a question share their prompt.
  void admit() {
    if (waiting.empty()) return;
    std::unordered_set<BlockHash> in_progress;
    int64_t rows = 0;
    for (const SequencePtr& sequence : running) {
      rows += rows_wanted(*sequence, options.max_step_tokens);
      for (size_t b = static_cast<size_t>(sequence->published); b < sequence->hashes.size(); ++b)
        in_progress.insert(sequence->hashes[b]);
    }
    for (auto it = waiting.begin(); it != waiting.end() && rows < options.max_step_tokens &&
                                    static_cast<int64_t>(running.size()) < options.max_batch;) {
      Sequence& sequence = **it;
      std::vector<int32_t> found;
      if (options.prefix_cache) {
        extend_hashes(sequence);
        const auto usable = static_cast<size_t>(first_needed(sequence) / kKvBlockTokens);
        while (found.size() < std::min(usable, sequence.hashes.size())) {
          const auto block = pool->find(sequence.hashes[found.size()]);
          if (!block) break;
          found.push_back(*block);
        }
        if (found.size() < std::min(usable, sequence.hashes.size()) &&
            in_progress.contains(sequence.hashes[found.size()])) {
          for (int32_t block : found) pool->release(block);
          ++it;
          continue;
        }
      }
      // A prompt starts only when it fits with a block to grow into.
      const int64_t needed = blocks_for(static_cast<int64_t>(sequence.tokens.size())) -
                             static_cast<int64_t>(found.size());
      const bool alone = running.empty();
      if (pool->free() < needed + (alone ? 0 : 1)) {
        for (int32_t block : found) pool->release(block);
        return;
      }
      sequence.computed = static_cast<int64_t>(found.size()) * kKvBlockTokens;
      sequence.published = static_cast<int64_t>(found.size());
      stats_add([&](Stats& s) { s.cached_tokens += sequence.computed; });
      if (Generation* generation = sequence.generation();
          generation && generation->result.token_ids.empty())
        generation->result.cached_tokens = sequence.computed;
      sequence.blocks = std::move(found);
      rows += rows_wanted(sequence, options.max_step_tokens);
      for (const BlockHash& hash : sequence.hashes) in_progress.insert(hash);
      running.push_back(std::move(*it));
      it = waiting.erase(it);
    }
  }

  // Blocks for `sequence` to hold `tokens`. Preempts the youngest others when there are none left;
  // false when `sequence` itself had to go.
  bool reserve(Sequence& sequence, int64_t tokens) {
    while (static_cast<int64_t>(sequence.blocks.size()) < blocks_for(tokens)) {
      if (const auto block = pool->allocate()) {
        sequence.blocks.push_back(*block);
        continue;
      }
      const auto youngest =
          std::max_element(running.begin(), running.end(),
                           [](const auto& a, const auto& b) { return a->arrival < b->arrival; });
      const bool self = youngest->get() == &sequence;
      stats_add([](Stats& s) { ++s.preemptions; });
      release(**youngest);
      preempted.insert(youngest->get());
      waiting.push_front(std::move(*youngest));
      running.erase(youngest);
      if (self) return false;
    }
    return true;
  }

  // Rows this sequence computes in a step that has `room` left.
  int64_t rows_wanted(Sequence& sequence, int64_t room) const {
    const auto total = static_cast<int64_t>(sequence.tokens.size());
    // The last token of a continuation is scored, not continued from.
    const int64_t target = sequence.scoring() ? total - 1 : total;
    return std::min(room, target - sequence.computed);
  }

  // The same where only so many of them may ask for logits, which rows from first_needed() on do.
  int64_t rows_wanted(Sequence& sequence, int64_t room, int64_t logit_room) const {
    const int64_t without = std::max<int64_t>(0, first_needed(sequence) - sequence.computed);
    return std::min(rows_wanted(sequence, room), without + logit_room);
  }
  static int64_t logits_of(Sequence& sequence, int64_t rows) {
    return std::max<int64_t>(
        0, sequence.computed + rows - std::max(sequence.computed, first_needed(sequence)));
  }

  struct Planned {
    Sequence* sequence;
    int64_t rows;
    std::vector<int64_t> logit_positions;  // positions in the sequence
  };

  void step() {
    if (running.empty()) return;
    std::vector<Planned> plan;
    ops::Batch batch;
    std::vector<int32_t> logit_rows;
    int64_t room = options.max_step_tokens, logit_room = kMostLogitRows;
    preempted.clear();
    // Decoding sequences first: a long prompt must not stall them.
    std::vector<Sequence*> order;
    for (const SequencePtr& sequence : running) order.push_back(sequence.get());
    std::stable_sort(order.begin(), order.end(), [&](Sequence* a, Sequence* b) {
      return (rows_wanted(*a, 2) == 1) > (rows_wanted(*b, 2) == 1);
    });
    for (Sequence* sequence : order) {
      if (room == 0) break;
      if (preempted.contains(sequence)) continue;
      const int64_t rows = rows_wanted(*sequence, room, logit_room);
      if (rows <= 0 || !reserve(*sequence, sequence->computed + rows)) continue;
      plan.push_back({sequence, rows, {}});
      room -= rows;
      logit_room -= logits_of(*sequence, rows);
    }
    // A later reservation may have preempted an earlier sequence of the plan.
    std::erase_if(plan, [&](const Planned& planned) { return planned.sequence->blocks.empty(); });
    for (Planned& planned : plan) add_rows(planned, batch, logit_rows);
    if (plan.empty()) return;
    decoder.run(std::move(batch), *kv, logit_rows);
    const std::vector<ops::LogitSummary> summaries = summaries_of(plan);
    const auto now = endpoint::Clock::now();
    int64_t row = 0;
    for (Planned& planned : plan) {
      Sequence& sequence = *planned.sequence;
      sequence.computed += planned.rows;
      publish_full_blocks(sequence);
      for (int64_t position : planned.logit_positions)
        use_logits(sequence, position, row, summaries[static_cast<size_t>(row)], now), ++row;
    }
    stats_add([&](Stats& s) {
      ++s.steps;
      s.peak_blocks = std::max(s.peak_blocks, pool->total() - pool->free());
    });
    finish_done();
  }

  void add_rows(Planned& planned, ops::Batch& batch, std::vector<int32_t>& logit_rows) {
    Sequence& sequence = *planned.sequence;
    ops::Batch::Sequence part;
    part.first_row = batch.rows();
    part.rows = planned.rows;
    part.context = sequence.computed + planned.rows;
    part.blocks.assign(sequence.blocks.begin(), sequence.blocks.begin() + blocks_for(part.context));
    const int64_t needed_from = first_needed(sequence);
    for (int64_t i = 0; i < planned.rows; ++i) {
      const int64_t position = sequence.computed + i;
      batch.tokens.push_back(sequence.tokens[static_cast<size_t>(position)]);
      batch.positions.push_back(static_cast<int32_t>(position));
      if (position >= needed_from) {
        planned.logit_positions.push_back(position);
        logit_rows.push_back(static_cast<int32_t>(part.first_row + i));
      }
    }
    batch.sequences.push_back(std::move(part));
    stats_add([&](Stats& s) {
      (planned.rows == 1 && sequence.generation() ? s.generated_tokens : s.prompt_tokens) +=
          planned.rows;
    });
  }

  void publish_full_blocks(Sequence& sequence) {
    if (!options.prefix_cache) return;
    extend_hashes(sequence);
    for (; (sequence.published + 1) * kKvBlockTokens <= sequence.computed; ++sequence.published) {
      const auto b = static_cast<size_t>(sequence.published);
      pool->publish(sequence.blocks[b], sequence.hashes[b]);
    }
  }

  // What the rows of logits say about the tokens that are scored, in the order of the plan.
  std::vector<ops::LogitSummary> summaries_of(const std::vector<Planned>& plan) {
    std::vector<int32_t> targets;
    for (const Planned& planned : plan)
      for (int64_t position : planned.logit_positions)
        targets.push_back(planned.sequence->scoring()
                              ? planned.sequence->tokens[static_cast<size_t>(position + 1)]
                              : -1);
    if (targets.empty()) return {};
    const auto summaries = decoder.summaries(targets);
    return {summaries.begin(), summaries.end()};
  }

  // `row`: of the step's logits, read whole only where more than their summary is wanted.
  void use_logits(Sequence& sequence, int64_t position, int64_t row,
                  const ops::LogitSummary& summary, endpoint::Clock::time_point now) {
    if (Scoring* scoring = sequence.scoring()) {
      // Computed again after a preemption: scored already.
      const auto scored = static_cast<int64_t>(scoring->result.tokens.size());
      if (position < first_needed(sequence) + scored) return;
      const int32_t next = sequence.tokens[static_cast<size_t>(position + 1)];
      endpoint::TokenLogprob token{next, summary.target - summary.log_sum_exp, {}};
      if (scoring->request.top > 0)
        token.top = best(decoder.logits(row, 1).row(0), scoring->request.top, summary.log_sum_exp);
      scoring->result.tokens.push_back(std::move(token));
      scoring->result.greedy.push_back(summary.argmax == next);
      return;
    }
    Generation& generation = *sequence.generation();
    const endpoint::Sampling& sampling = generation.request.sampling;
    const auto index = static_cast<int64_t>(generation.result.token_ids.size());
    int32_t id = summary.argmax;
    if (sampling.temperature > 0 || sampling.logprobs > 0) {
      const std::span<const float> logits = decoder.logits(row, 1).row(0);
      id = sample(logits, sampling, index);
      if (sampling.logprobs > 0) {
        const double normalizer = ops::log_sum_exp(logits);
        generation.result.logprobs.push_back({id, logits[static_cast<size_t>(id)] - normalizer,
                                              best(logits, sampling.logprobs, normalizer)});
      }
    }
    generation.result.timings.tokens.push_back(now);
    sequence.tokens.push_back(id);
    sequence.done = accept_token(generation, id, checkpoint->config().eos_ids);
  }

  void finish_done() {
    std::erase_if(running, [&](SequencePtr& sequence) {
      if (Scoring* scoring = sequence->scoring()) {
        if (scoring->result.tokens.size() < scoring->request.continuation.size()) return false;
        release(*sequence);
        scoring->promise.set_value(std::move(scoring->result));
        return true;
      }
      if (!sequence->done) return false;
      release(*sequence);
      Generation& generation = *sequence->generation();
      generation.result.timings.finished = endpoint::Clock::now();
      generation.promise.set_value(std::move(generation.result));
      return true;
    });
  }

  template <class Change>
  void stats_add(Change change) {
    std::lock_guard lock(mutex);
    change(stats);
  }

  std::unique_ptr<ops::Backend> backend;
  Options options;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint;
  text::Tokenizer tokenizer;
  model::Decoder decoder;
  std::unique_ptr<text::ChatTemplate> chat;
  std::unique_ptr<model::KvCache> kv;
  std::unique_ptr<BlockPool> pool;
  endpoint::Info info;

  std::mutex mutex;  // guards what follows up to `thread`
  std::condition_variable wake;
  std::vector<SequencePtr> incoming;
  int64_t arrivals = 0;
  bool stopping = false;
  Stats stats;

  // Only the engine's thread touches these, except for run()'s wait condition.
  std::deque<SequencePtr> waiting;
  std::vector<SequencePtr> running;
  std::set<const Sequence*> preempted;  // in the step that is being planned
  std::thread thread;
};

Engine::Engine(const std::filesystem::path& model, const Options& options)
    : Engine(checkpoint::open(model), options) {}
Engine::Engine(std::unique_ptr<checkpoint::Checkpoint> checkpoint, const Options& options)
    : state_(std::make_unique<State>(std::move(checkpoint), options)) {}
Engine::~Engine() = default;

const endpoint::Info& Engine::info() const { return state_->info; }
const text::Tokenizer& Engine::tokenizer() const { return state_->tokenizer; }
const text::ChatTemplate* Engine::chat_template() const { return state_->chat.get(); }
int64_t Engine::weight_bytes() const { return state_->decoder.weight_bytes(); }

Stats Engine::stats() const {
  std::lock_guard lock(state_->mutex);
  return state_->stats;
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
  std::string refusal =
      state_->refusal(sequence->tokens, static_cast<int64_t>(sequence->tokens.size()));
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
