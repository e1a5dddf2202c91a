// What backends whose memory is the host's share: allocation, copies, operations that only move
// rows. Results are those of Backend's contract.
#pragma once

#include <functional>

#include "ops/backend.h"

namespace narrow::ops {

class HostBackend : public Backend {
 public:
  DType activation_dtype() const override { return DType::f32; }
  DeviceBuffer allocate(int64_t bytes) override;
  void upload(const DeviceBuffer& to, std::span<const std::byte> from) override;
  void download(std::span<std::byte> to, const void* from) override;
  std::span<const std::byte> read_back(const void* from, int64_t bytes) override {
    return {static_cast<const std::byte*>(from), static_cast<size_t>(bytes)};
  }
  void synchronize() override {}
  int64_t free_bytes() const override;
  DeviceBuffer prepare(const Tensor& tensor) override;
  std::unique_ptr<Plan> plan(Batch batch) override;
  std::unique_ptr<PendingSummaries> summarize_logits(Matrix logits,
                                                     std::span<const LogitQuery> queries,
                                                     const DeviceBuffer& chosen) override;
  std::vector<LogitDivergence> compare_logits(Matrix p, Matrix q,
                                              std::span<const int32_t> targets) override;
  void embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
             Matrix out) override;
  void gather_rows(Matrix x, std::span<const int32_t> rows, Matrix out) override;

 protected:
  using Backend::prepare;
  // Calls body(r) for each row of logits, in any order, some at a time where there are threads.
  virtual void for_each_row(int64_t rows, const std::function<void(int64_t)>& body) {
    for (int64_t r = 0; r < rows; ++r) body(r);
  }
};

// float pointer into a buffer of f32.
inline const float* floats(const DeviceBuffer& buffer) {
  return static_cast<const float*>(buffer.data.get());
}

}  // namespace narrow::ops
