#include "ops/cuda/summaries.h"

#include <algorithm>

#include "ops/cuda/error.h"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

SummarySlot::SummarySlot() {
  check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "event");
}

SummarySlot::~SummarySlot() {
  cudaFreeHost(queries);
  cudaFreeHost(summaries);
  cudaEventDestroy(done);
}

void SummarySlot::make_room(int64_t wanted) {
  if (rows >= wanted) return;
  check(cudaFreeHost(queries), "freeing host memory");
  check(cudaFreeHost(summaries), "freeing host memory");
  queries = nullptr;
  summaries = nullptr;
  rows = 0;
  // Room for a whole batch at once: taking page-locked memory waits for the device.
  const int64_t room = std::max<int64_t>(2 * wanted, 1024);
  const auto count = static_cast<size_t>(room);
  check(cudaMallocHost(reinterpret_cast<void**>(&queries), count * sizeof(LogitQuery)),
        "page-locked host memory");
  check(cudaMallocHost(reinterpret_cast<void**>(&summaries), count * sizeof(LogitSummary)),
        "page-locked host memory");
  rows = room;
}

class SummarySlots::Pending : public PendingSummaries {
 public:
  Pending(SummarySlots& home, std::unique_ptr<SummarySlot> slot, size_t rows)
      : home_(home), slot_(std::move(slot)), rows_(rows) {}
  ~Pending() override {
    cudaEventSynchronize(slot_->done);
    home_.free_.push_back(std::move(slot_));
  }

  std::span<const LogitSummary> wait() override {
    check(cudaEventSynchronize(slot_->done), "a step");
    return {slot_->summaries, rows_};
  }

 private:
  SummarySlots& home_;
  std::unique_ptr<SummarySlot> slot_;
  size_t rows_;
};

std::unique_ptr<PendingSummaries> SummarySlots::start(Matrix logits,
                                                      std::span<const LogitQuery> queries,
                                                      int32_t* chosen, cudaStream_t stream) {
  std::unique_ptr<SummarySlot> slot;
  if (free_.empty()) {
    slot = std::make_unique<SummarySlot>();
  } else {
    slot = std::move(free_.back());
    free_.pop_back();
  }
  slot->make_room(logits.rows);
  std::copy(queries.begin(), queries.end(), slot->queries);
  cuda::summarize_logits(static_cast<const float*>(logits.data), slot->queries, slot->summaries,
                         chosen, logits.rows, logits.cols, stream);
  const bool draws = std::any_of(queries.begin(), queries.end(),
                                 [](const LogitQuery& query) { return query.temperature > 0; });
  if (draws)
    cuda::sample_logits(static_cast<const float*>(logits.data), slot->queries, slot->summaries,
                        chosen, logits.rows, logits.cols, stream);
  check(cudaEventRecord(slot->done, stream), "event");
  return std::make_unique<Pending>(*this, std::move(slot), queries.size());
}

}  // namespace narrow::ops::cuda
