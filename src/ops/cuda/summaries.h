// Summaries of logits on their way to the host: the kernel writes them into page-locked memory, so
// that nothing has to be copied between two steps.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "ops/backend.h"

namespace narrow::ops::cuda {

// Page-locked memory for the queries and summaries of one step, and the event after its kernel.
struct SummarySlot {
  SummarySlot();
  ~SummarySlot();
  SummarySlot(const SummarySlot&) = delete;
  SummarySlot& operator=(const SummarySlot&) = delete;
  // REQUIRES: no kernel uses the slot.
  void make_room(int64_t rows);

  LogitQuery* queries = nullptr;
  LogitSummary* summaries = nullptr;
  int64_t rows = 0;
  cudaEvent_t done = nullptr;
};

// The slots that are not in use; as many come to be as steps are under way. Outlived by nothing
// that it gave out.
class SummarySlots {
 public:
  // Enqueues the summaries of `logits` (f32) on `stream`; arguments as Backend::summarize_logits.
  std::unique_ptr<PendingSummaries> start(Matrix logits, std::span<const LogitQuery> queries,
                                          int32_t* chosen, cudaStream_t stream);

 private:
  class Pending;
  std::vector<std::unique_ptr<SummarySlot>> free_;
};

}  // namespace narrow::ops::cuda
