#include "memory_rate.h"

#include "ops/cuda/capability.h"
#include "tile_stream.cuh"

namespace narrow::benchmarks {

std::optional<double> memory_rate() {
  using namespace ops::cuda;
  if (compute_capability() != 90) return {};
  const DeviceMemory bytes(kBytes);
  check(cudaMemset(bytes.as<uint8_t>(), 0, kBytes), "cudaMemset");
  return stream_rate(bytes.as<uint8_t>(), 32, 4, 1, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, false);
}

}  // namespace narrow::benchmarks
