// A step's metadata in device memory.
#pragma once

#include "ops/backend.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/staging.h"

namespace narrow::ops::cuda {

// Where the metadata of a decode step lies when its kernels are to be recorded: always in the same
// place. One plan at a time uses it.
class StepMemory {
 public:
  explicit StepMemory(cudaStream_t stream);

  static constexpr int64_t kRows = 512;
  static constexpr int64_t kBlocks = int64_t{64} << 10;  // of the cache, over all rows

 private:
  friend class CudaPlan;
  DeviceBuffer memory_;
  bool in_use_ = false;
};

class CudaPlan : public Plan {
 public:
  // Uploads in the order of `stream`, which is that of `staging`: steps before this one keep what
  // they read, also in the fixed memory.
  CudaPlan(Batch batch, StepMemory& fixed, Staging& staging, cudaStream_t stream);
  ~CudaPlan() override;

  const DeviceBatch& device() const { return device_; }
  // Whether its kernels' arguments are a function of rows, chunks and walk_heads alone: one row
  // a sequence, in the fixed memory.
  bool recordable() const { return fixed_ != nullptr; }
  // Singles that stand in no tile; they come first.
  int lone() const { return lone_; }
  // The part of the step whose singles are [first, first + count).
  DeviceBatch singles(int first, int count) const;

 private:
  DeviceBuffer memory_;
  StepMemory* fixed_ = nullptr;
  DeviceBatch device_;
  std::vector<int32_t> visible_;  // of each single
  int lone_ = 0;
};

}  // namespace narrow::ops::cuda
