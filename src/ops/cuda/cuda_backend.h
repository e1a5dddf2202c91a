// Kernels on one NVIDIA GPU, Hopper's own or portable ones (portable.h). Activations and KV cache
// are bf16, sums float32 or exact integers. Every kernel here gives a row the same bits whatever
// else is in the step.
#pragma once

#include <memory>

#include "ops/backend.h"
#include "ops/cuda_plugin.h"

namespace narrow::ops::cuda {

// On the first device. Throws Error::refused when there is none that this build has code for.
std::unique_ptr<Backend> make_cuda_backend(int threads, CudaKernels kernels);

}  // namespace narrow::ops::cuda
