// The CUDA backend lives in a library of its own, libnarrow_cuda.so, loaded when it is asked for:
// one binary runs with and without a GPU, and builds without the CUDA toolkit. Looked for beside
// the program, then where the dynamic linker looks. Both must come from the same headers: what the
// library says they were (NARROW_OPS_STAMP) is compared.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace narrow::ops {

// Those made for the device, or those that run on every supported one: what other devices than
// Hopper have, and what tests compare on Hopper.
enum class CudaKernels { of_device, portable };

// Throws Error::refused saying what is missing: the library, a GPU, a GPU it has code for.
std::unique_ptr<Backend> make_cuda_backend(int threads,
                                           CudaKernels kernels = CudaKernels::of_device);

// nullptr when there is none to use here; where there is the library all the same, a warning says
// why, once.
std::unique_ptr<Backend> try_cuda_backend(int threads);

}  // namespace narrow::ops
