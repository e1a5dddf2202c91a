#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_set>

#include "engine/sampler.h"

namespace narrow::engine {
namespace {

using ops::kKvBlockTokens;

int64_t blocks_for(int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// Of a step: at a vocabulary of 150 000 their logits are 600 MB.
constexpr int64_t kMostLogitRows = 1024;

// Of the logits at `position`, before those of later positions are asked for.
ops::LogitQuery query_at(Sequence& sequence, int64_t position) {
  if (sequence.scoring())
    return {.target = sequence.tokens[static_cast<size_t>(position + 1)],
            .normalize = true,
            .best_count = best_count(sequence.alternatives())};
  const Generation& generation = *sequence.generation();
  ops::LogitQuery query =
      query_of(generation.request.sampling,
               static_cast<int64_t>(generation.result.token_ids.size()) + sequence.pending);
  query.target = 0;  // any token: a sum that became no number makes all logits such (engine.cc)
  return query;
}

}  // namespace

Scheduler::Scheduler(const Options& options, int64_t blocks) : options_(options), pool_(blocks) {
  stats.total_blocks = blocks;
}

void Scheduler::add(SequencePtr sequence) {
  sequence->arrival = arrivals_++;
  waiting_.push_back(std::move(sequence));
}

void Scheduler::release(Sequence& sequence) {
  for (int32_t block : sequence.blocks) pool_.release(block);
  sequence.blocks.clear();
  sequence.computed = 0;
  sequence.published = 0;
}

std::vector<SequencePtr> Scheduler::remove(bool waiting,
                                           const std::function<bool(Sequence&)>& ended) {
  std::vector<SequencePtr> removed;
  const auto take = [&](SequencePtr& sequence) {
    if (!ended(*sequence)) return false;
    removed.push_back(std::move(sequence));
    return true;
  };
  std::erase_if(running_, take);
  if (waiting) std::erase_if(waiting_, take);
  return removed;
}

void extend_hashes(Sequence& sequence) {
  const int64_t full = static_cast<int64_t>(sequence.tokens.size()) / kKvBlockTokens;
  while (static_cast<int64_t>(sequence.hashes.size()) < full) {
    const BlockHash previous = sequence.hashes.empty() ? BlockHash() : sequence.hashes.back();
    const int64_t first = static_cast<int64_t>(sequence.hashes.size()) * kKvBlockTokens;
    sequence.hashes.push_back(block_hash(previous, sequence.tokens.data() + first, kKvBlockTokens));
  }
}

void Scheduler::publish(const Step::Part& part) {
  if (!options_.prefix_cache) return;
  Sequence& sequence = *part.sequence;
  extend_hashes(sequence);
  for (; (sequence.published + 1) * kKvBlockTokens <= part.end; ++sequence.published) {
    const auto b = static_cast<size_t>(sequence.published);
    pool_.publish(sequence.blocks[b], sequence.hashes[b]);
  }
}

// Moves waiting sequences into the batch while there is room and the next step has rows for them:
// one that waits longer finds more of its prompt computed. A sequence whose next block another one
// is computing right now waits for it: the choices of a question share their prompt.
void Scheduler::admit() {
  const auto full = [&] { return static_cast<int64_t>(running_.size()) >= options_.max_batch; };
  if (waiting_.empty() || full()) return;
  std::unordered_set<BlockHash> in_progress;
  const auto rows_of = [&](Sequence& sequence) {
    return rows_wanted(sequence, options_.max_step_tokens, options_.max_step_tokens);
  };
  int64_t rows = 0;
  for (const SequencePtr& sequence : running_) {
    rows += rows_of(*sequence);
    for (size_t b = static_cast<size_t>(sequence->published); b < sequence->hashes.size(); ++b)
      in_progress.insert(sequence->hashes[b]);
  }
  for (auto it = waiting_.begin();
       it != waiting_.end() && !full() && rows < options_.max_step_tokens;) {
    Sequence& sequence = **it;
    std::vector<int32_t> found;
    if (options_.prefix_cache) {
      extend_hashes(sequence);
      const auto usable = static_cast<size_t>(sequence.first_needed() / kKvBlockTokens);
      while (found.size() < std::min(usable, sequence.hashes.size())) {
        const auto block = pool_.find(sequence.hashes[found.size()]);
        if (!block) break;
        found.push_back(*block);
      }
      if (found.size() < std::min(usable, sequence.hashes.size()) &&
          in_progress.contains(sequence.hashes[found.size()])) {
        for (int32_t block : found) pool_.release(block);
        ++it;
        continue;
      }
    }
    // A prompt starts only when it fits with a block to grow into.
    const auto known = static_cast<int64_t>(sequence.tokens.size());
    const int64_t needed =
        blocks_for(std::min(known, sequence.target())) - static_cast<int64_t>(found.size());
    const bool alone = running_.empty();
    if (pool_.free() < needed + (alone ? 0 : 1)) {
      for (int32_t block : found) pool_.release(block);
      return;
    }
    sequence.computed = static_cast<int64_t>(found.size()) * kKvBlockTokens;
    sequence.published = static_cast<int64_t>(found.size());
    stats.cached_tokens += sequence.computed;
    if (Generation* generation = sequence.generation();
        generation && generation->result.token_ids.empty())
      generation->result.cached_tokens = sequence.computed;
    sequence.blocks = std::move(found);
    for (const BlockHash& hash : sequence.hashes) in_progress.insert(hash);
    rows += rows_of(sequence);
    running_.push_back(std::move(*it));
    it = waiting_.erase(it);
  }
}

// Blocks for `sequence` to hold `tokens`. Preempts the youngest others when there are none left;
// `preempted` when the sequence itself had to go.
Scheduler::Reserved Scheduler::reserve(Sequence& sequence, int64_t tokens, bool ahead) {
  while (static_cast<int64_t>(sequence.blocks.size()) < blocks_for(tokens)) {
    if (const auto block = pool_.allocate()) {
      sequence.blocks.push_back(*block);
      continue;
    }
    // Ends that the step under way brings may free some; a preempted sequence needs all its tokens.
    if (ahead) return Reserved::later;
    const auto youngest =
        std::max_element(running_.begin(), running_.end(),
                         [](const auto& a, const auto& b) { return a->arrival < b->arrival; });
    const bool self = youngest->get() == &sequence;
    ++stats.preemptions;
    release(**youngest);
    preempted_.push_back(youngest->get());
    waiting_.push_front(std::move(*youngest));
    running_.erase(youngest);
    if (self) return Reserved::preempted;
  }
  return Reserved::yes;
}

// Rows `sequence` computes in a step that has room for so many, and for so many that ask for
// logits, as rows from first_needed() on do.
int64_t Scheduler::rows_wanted(Sequence& sequence, int64_t room, int64_t logit_room) const {
  const int64_t without = std::max<int64_t>(0, sequence.first_needed() - sequence.computed);
  return std::min({room, sequence.target() - sequence.computed, without + logit_room});
}

std::optional<Step> Scheduler::plan(bool ahead) {
  admit();
  preempted_.clear();
  // Decoding sequences first: a long prompt must not stall them.
  std::vector<Sequence*> order;
  for (const SequencePtr& sequence : running_)
    if (sequence->target() > sequence->computed) order.push_back(sequence.get());
  std::stable_partition(order.begin(), order.end(), [](Sequence* sequence) {
    return sequence->target() - sequence->computed == 1;
  });
  struct Planned {
    Sequence* sequence;
    int64_t rows;
  };
  std::vector<Planned> planned;
  int64_t room = options_.max_step_tokens, logit_room = kMostLogitRows;
  for (Sequence* sequence : order) {
    if (room == 0) break;
    const auto gone = std::find(preempted_.begin(), preempted_.end(), sequence);
    if (gone != preempted_.end()) continue;
    const int64_t rows = rows_wanted(*sequence, room, logit_room);
    if (rows <= 0) continue;
    const int64_t end = sequence->computed + rows;
    const Reserved reserved = reserve(*sequence, end, ahead);
    if (reserved == Reserved::later) return std::nullopt;
    if (reserved == Reserved::preempted) continue;
    planned.push_back({sequence, rows});
    room -= rows;
    logit_room -=
        std::max<int64_t>(0, end - std::max(sequence->computed, sequence->first_needed()));
  }
  // A later reservation may have preempted an earlier sequence of the plan.
  std::erase_if(planned, [](const Planned& p) { return p.sequence->blocks.empty(); });
  if (planned.empty()) return std::nullopt;
  Step step;
  for (const Planned& p : planned) add_part(*p.sequence, p.rows, step);
  stats.peak_blocks = std::max(stats.peak_blocks, pool_.total() - pool_.free());
  return step;
}

void Scheduler::add_part(Sequence& sequence, int64_t rows, Step& step) {
  const int64_t begin = sequence.computed, end = begin + rows;
  const auto known = static_cast<int64_t>(sequence.tokens.size());
  ops::Batch& batch = step.batch;
  ops::Batch::Sequence part;
  part.first_row = batch.rows();
  part.rows = rows;
  part.context = end;
  part.blocks.assign(sequence.blocks.begin(), sequence.blocks.begin() + blocks_for(end));
  const int64_t first_logits = std::min(end, std::max(begin, sequence.first_needed()));
  for (int64_t position = begin; position < end; ++position) {
    const bool pending = position >= known;
    batch.tokens.push_back(pending ? 0 : sequence.tokens[static_cast<size_t>(position)]);
    batch.token_sources.push_back(pending ? sequence.source : -1);
    batch.positions.push_back(static_cast<int32_t>(position));
    if (position < first_logits) continue;
    step.logit_rows.push_back(static_cast<int32_t>(part.first_row + position - begin));
    step.queries.push_back(query_at(sequence, position));
  }
  batch.sequences.push_back(std::move(part));
  step.parts.push_back({&sequence, rows, end, first_logits});
  sequence.computed = end;
  if (first_logits == end) return;
  step.host_reads = step.host_reads || sequence.wants_logits();
  if (sequence.scoring()) return;
  ++sequence.pending;
  sequence.source = static_cast<int32_t>(step.logit_rows.size()) - 1;
}

}  // namespace narrow::engine
