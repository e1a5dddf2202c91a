// The factor that GPTQ divides by. In double, since inverting loses what float has.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace narrow::quantize {

// U, upper triangular [n, n] row-major, with UᵀU = h⁻¹: the Cholesky factor of the inverse of h
// [n, n]. Empty when h is not positive definite. The order of sums does not depend on the threads.
std::vector<float> inverse_factor(const std::vector<float>& h, int64_t n, ThreadPool& pool);

}  // namespace narrow::quantize
