// Scales and zero points from weights. Formulas are those of compressed-tensors (calculate_qparams)
// and llm-compressor's observers; scales are bf16 numbers from the start, as they will be stored.
// Pure functions.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "tensor/scheme.h"
#include "tensor/view.h"

namespace narrow::quantize {

// One scale (and zero point) for each row of `groups` columns.
struct Scales {
  int64_t rows = 0;
  int64_t groups = 0;              // 1 per channel
  int64_t group_size = 0;          // columns of a group
  std::vector<float> scale;        // [rows, groups], bf16 values
  std::vector<int8_t> zero_point;  // [rows, groups]; empty: symmetric

  float zero(int64_t at) const {
    return zero_point.empty() ? 0.0f : zero_point[static_cast<size_t>(at)];
  }
};

struct ObserverOptions {
  // Clipping search: candidates p · range, p = 1, 0.99, … above 1 - max_shrink; the one with the
  // smallest Σ |q - w|^2.4 wins. 0: min-max, no search.
  double max_shrink = 0;
};

// The integer grid, or ±448 for e4m3.
struct Grid {
  float low, high;
};
Grid grid_of(const QuantArgs& args);

// w: [rows, cols] bf16 values as float. REQUIRES: cols is a multiple of the group size.
Scales observe(View<const float> w, const QuantArgs& args, const ObserverOptions& options,
               ThreadPool& pool);

// Scale and zero point for a range that contains 0. zero: where to put the zero point.
float scale_for(float low, float high, const QuantArgs& args, float& zero);

}  // namespace narrow::quantize
