// Which rows of which sequences a step computes: admission, prefix cache, chunked prefill,
// preemption. Owns the sequences between their arrival and their end, and the blocks of the KV
// cache. Used by one thread; knows no backend.
//
// A step may be planned while the one before it still runs. What that step will have computed is
// counted as computed; the token it chooses is unknown, so a row that follows from it names the
// logit row in the token's place (ops::Batch::token_sources). Whether a sequence goes on is known
// but for ends of sequence and stop strings: the row of one that ended is computed for nothing.
// Blocks are written and read in the order of the steps, so they may change hands while steps run.
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "engine/block_pool.h"
#include "engine/engine.h"
#include "engine/sequence.h"
#include "ops/batch.h"
#include "ops/logits.h"

namespace narrow::engine {

using SequencePtr = std::unique_ptr<Sequence>;

struct Step {
  struct Part {
    Sequence* sequence = nullptr;
    int64_t rows = 0;
    int64_t end = 0;           // position behind the last row
    int64_t first_logits = 0;  // position of the first row whose logits are wanted; `end`: none
  };
  std::vector<Part> parts;
  ops::Batch batch;
  std::vector<int32_t> logit_rows;       // of the parts, in their order
  std::vector<ops::LogitQuery> queries;  // one of each logit row
  bool host_reads = false;        // logits are read on the host before the next step is planned
  std::vector<SequencePtr> left;  // ended after the step was planned: it may still name them
};

// Hashes of all blocks that its tokens fill.
void extend_hashes(Sequence& sequence);

class Scheduler {
 public:
  // options: without zeros. blocks: of the KV cache.
  Scheduler(const Options& options, int64_t blocks);

  void add(SequencePtr sequence);
  bool empty() const { return waiting_.empty() && running_.empty(); }
  int64_t total_blocks() const { return pool_.total(); }

  // The next step. ahead: the results of the step before it were not taken yet; then nothing is
  // preempted. Nothing when there is nothing to compute, or (ahead) not without those results.
  std::optional<Step> plan(bool ahead);

  // `part` has run and its sequence goes on: its full blocks can be found by others from now on.
  void publish(const Step::Part& part);

  // Removes the sequences of which `ended` is true, running ones or all, and hands them over.
  // REQUIRES: release() of each, as soon as no step names it.
  std::vector<SequencePtr> remove(bool waiting, const std::function<bool(Sequence&)>& ended);
  void release(Sequence& sequence);

  Stats stats;  // the engine's, but for what it counts itself

 private:
  enum class Reserved { yes, preempted, later };

  void admit();
  int64_t rows_wanted(Sequence& sequence, int64_t room, int64_t logit_room) const;
  Reserved reserve(Sequence& sequence, int64_t tokens, bool ahead);
  void add_part(Sequence& sequence, int64_t rows, Step& step);

  const Options options_;
  BlockPool pool_;
  std::deque<SequencePtr> waiting_;
  std::vector<SequencePtr> running_;
  std::vector<const Sequence*> preempted_;  // in the step that is being planned
  int64_t arrivals_ = 0;
};

}  // namespace narrow::engine
