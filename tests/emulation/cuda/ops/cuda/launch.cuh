// In place of src/ops/cuda/launch.cuh on the host: a launch runs the kernel and returns.
#pragma once

#include "emulation/block.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/device.cuh"
#include "ops/cuda/divide.h"
#include "ops/cuda/error.h"

namespace narrow::ops::cuda {

template <class... Parameters, class... Arguments>
void launch_clusters(int cluster, void (*kernel)(Parameters...), dim3 grid, int threads,
                     size_t shared_bytes, cudaStream_t, Arguments... arguments) {
  emulation::run_grid(
      {static_cast<int>(grid.x), static_cast<int>(grid.y), static_cast<int>(grid.z)}, threads,
      shared_bytes, [&] { kernel(arguments...); }, cluster);
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  launch_clusters(1, kernel, grid, threads, shared_bytes, stream, arguments...);
}

template <class Parameter>
void launch_together(void (*kernel)(Parameter), dim3 grid, int threads, size_t shared_bytes,
                     cudaStream_t stream, const Parameter& argument) {
  launch_clusters(static_cast<int>(grid.x), kernel, grid, threads, shared_bytes, stream, argument);
}

template <class Kernel>
void allow_shared_memory(Kernel, size_t) {}

}  // namespace narrow::ops::cuda
