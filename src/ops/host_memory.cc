#include "ops/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "ops/check.h"

namespace narrow::ops {

DeviceBuffer HostBackend::allocate(int64_t bytes) {
  const Tensor memory(DType::u8, {bytes});
  DeviceBuffer buffer;
  buffer.size_bytes = bytes;
  // The buffer keeps the tensor's bytes alive.
  auto owner = std::make_shared<Tensor>(memory);
  buffer.data = std::shared_ptr<void>(owner, owner->data());
  return buffer;
}

int64_t HostBackend::free_bytes() const {
  return int64_t{sysconf(_SC_AVPHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

void HostBackend::upload(const DeviceBuffer& to, std::span<const std::byte> from) {
  if (static_cast<int64_t>(from.size()) > to.size_bytes)
    throw Error::failed("upload beyond the end of the buffer");
  std::memcpy(to.data.get(), from.data(), from.size());
}

void HostBackend::download(std::span<std::byte> to, const void* from) {
  std::memcpy(to.data(), from, to.size());
}

DeviceBuffer HostBackend::prepare(const Tensor& tensor) {
  const bool kept = tensor.shape().size() == 2 && tensor.dtype() == DType::bf16;
  const Tensor converted = kept ? tensor : tensor.to(DType::f32);
  DeviceBuffer buffer = allocate(converted.size_bytes());
  buffer.dtype = converted.dtype();
  upload(buffer, converted.raw());
  return buffer;
}

std::unique_ptr<Plan> HostBackend::plan(Batch batch) {
  return std::make_unique<Plan>(std::move(batch));
}

namespace {

// Nothing is ever on its way: operations of the host have run when they return.
class HostSummaries : public PendingSummaries {
 public:
  explicit HostSummaries(std::vector<LogitSummary> summaries) : summaries_(std::move(summaries)) {}
  std::span<const LogitSummary> wait() override { return summaries_; }

 private:
  std::vector<LogitSummary> summaries_;
};

std::span<const float> row_of(Matrix logits, int64_t row) {
  return {logits.row<float>(row), static_cast<size_t>(logits.cols)};
}

}  // namespace

std::unique_ptr<PendingSummaries> HostBackend::summarize_logits(Matrix logits,
                                                                std::span<const LogitQuery> queries,
                                                                const DeviceBuffer& chosen) {
  check_summarize(logits, queries, chosen);
  auto* tokens = static_cast<int32_t*>(chosen.data.get());
  std::vector<LogitSummary> summaries(queries.size());
  for_each_row(logits.rows, [&](int64_t r) {
    const auto row = static_cast<size_t>(r);
    summaries[row] = summarize(row_of(logits, r), queries[row]);
    tokens[r] = summaries[row].chosen;
  });
  return std::make_unique<HostSummaries>(std::move(summaries));
}

std::vector<LogitDivergence> HostBackend::compare_logits(Matrix p, Matrix q,
                                                         std::span<const int32_t> targets) {
  check_compare(p, q, targets);
  std::vector<LogitDivergence> divergences(targets.size());
  for_each_row(p.rows, [&](int64_t r) {
    const auto row = static_cast<size_t>(r);
    divergences[row] = divergence(row_of(p, r), row_of(q, r), targets[row]);
  });
  return divergences;
}

void HostBackend::embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
                        Matrix out) {
  check_embed(plan, table, chosen, out);
  const Batch& batch = plan.batch();
  const auto* tokens = static_cast<const int32_t*>(chosen.data.get());
  for (int64_t r = 0; r < out.rows; ++r) {
    const auto row = static_cast<size_t>(r);
    const int32_t source = batch.token_sources.empty() ? -1 : batch.token_sources[row];
    const int64_t first = int64_t{source < 0 ? batch.tokens[row] : tokens[source]} * out.cols;
    float* to = out.row<float>(r);
    if (table.dtype == DType::bf16) {
      const bf16* from = static_cast<const bf16*>(table.data.get()) + first;
      for (int64_t c = 0; c < out.cols; ++c) to[c] = to_float(from[c]);
    } else {
      std::copy(floats(table) + first, floats(table) + first + out.cols, to);
    }
  }
}

void HostBackend::gather_rows(Matrix x, std::span<const int32_t> rows, Matrix out) {
  check_gather(x, rows, out);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.row<float>(static_cast<int64_t>(i)), x.row<float>(rows[i]),
                static_cast<size_t>(x.cols) * sizeof(float));
  }
}

}  // namespace narrow::ops
