// Whole steps that cover a length.
#pragma once

#include <cstdint>

namespace narrow::ops::cuda {

// REQUIRES: a >= 0, b > 0, and the result fits.
constexpr int div_up(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }
constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace narrow::ops::cuda
