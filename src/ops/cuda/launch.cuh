// Launches a kernel as a programmatic dependent of the one before it in the stream, where the
// device knows that (from 9.0 on; elsewhere it starts when that one has ended). Every kernel
// launched this way calls wait_for_previous_kernel() before it touches what others write.
#pragma once

#include <cuda_runtime.h>

#include "ops/cuda/capability.h"
#include "ops/cuda/divide.h"
#include "ops/cuda/error.h"

namespace narrow::ops::cuda {

// In clusters of `cluster` blocks along x, which divides the grid. REQUIRES: cluster is 1 or the
// device has_clusters().
template <class... Parameters, class... Arguments>
void launch_clusters(int cluster, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                     size_t shared_bytes, cudaStream_t stream, Arguments... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(cluster);
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = !has_clusters() ? 0 : cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
        "kernel launch");
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  launch_clusters(1, kernel, grid, block, shared_bytes, stream, arguments...);
}

// All blocks at a time, so that they may wait for each other, or none.
template <class Parameter>
void launch_together(void (*kernel)(Parameter), dim3 grid, dim3 block, size_t shared_bytes,
                     cudaStream_t stream, const Parameter& argument) {
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &together;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, argument), "kernel launch");
}

// More than 48 KiB of shared memory must be asked for, once per kernel.
template <class Kernel>
void allow_shared_memory(Kernel kernel, size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "shared memory of a kernel");
}

}  // namespace narrow::ops::cuda
