// A step's metadata in device memory.
#pragma once

#include "ops/backend.h"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

class CudaPlan : public Plan {
 public:
  // Uploads on `stream`. Every row is a single of its own: attended alone, whatever its neighbours.
  CudaPlan(Batch batch, cudaStream_t stream);

  const DeviceBatch& device() const { return device_; }
  // The part of the step whose singles are [first, first + count).
  DeviceBatch singles(int first, int count) const;

 private:
  DeviceBuffer memory_;
  DeviceBatch device_;
  std::vector<int32_t> visible_;  // of each single
};

}  // namespace narrow::ops::cuda
