// Moving scale between activations and weights, in front of a group of layers that share an input:
// the norm before them is divided by s, their columns multiplied, so that the function stays the
// same. SmoothQuant and AWQ differ in how they choose s. Pure functions.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace narrow::quantize {

// SmoothQuant (arXiv 2211.10438) as llm-compressor computes it: s = a^strength / w^(1 - strength)
// with a = max - min of each input channel and w = 2 · the largest |weight| of the column over
// `layers`; s = a where w is 0; at least 1e-5.
std::vector<float> smoothquant_scales(std::span<const float> activation_range,
                                      const std::vector<const Tensor*>& layers, double strength);

// The candidates of AWQ (arXiv 2306.00978) as llm-compressor 0.14 has them ("duo scaling", grid
// 20): no scaling, then x^r / (w^(1 - r) + 1e-4) for r = i / 18, each clamped to at least 1e-4 and
// divided by sqrt(max · min). x: mean |input| per channel. w: mean over rows of |weight| / (group's
// largest + 1e-6) over `layers`.
std::vector<std::vector<float>> awq_candidates(std::span<const float> mean_magnitude,
                                               const std::vector<const Tensor*>& layers,
                                               int64_t group_size);

// Columns times s; rows divided by s; a vector divided by s. In float, then rounded to bf16.
Tensor scale_columns(const Tensor& weight, const std::vector<float>& s, ThreadPool& pool);
Tensor divide_rows(const Tensor& weight, const std::vector<float>& s);

}  // namespace narrow::quantize
