// What GPTQ needs to know of a layer's inputs: the sum of xᵀx.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace narrow::quantize {

// Σ xᵀx over all input rows of a layer: [in, in], symmetric, float. The order of summation is
// fixed, whatever the number of threads.
class Hessian {
 public:
  explicit Hessian(int64_t in);

  // x: [rows, in] float.
  void add(const float* x, int64_t rows, ThreadPool& pool);
  // As if the inputs had been divided by `scales` [in] column by column.
  void divide_inputs(const std::vector<float>& scales, ThreadPool& pool);

  int64_t in() const { return in_; }
  int64_t rows() const { return rows_; }
  const std::vector<float>& sum() const { return sum_; }  // [in, in]
  float diagonal(int64_t i) const { return sum_[static_cast<size_t>(i * in_ + i)]; }

 private:
  // Copies a square at or above the diagonal to its place below.
  void mirror(int64_t i0, int64_t j0, int64_t height, int64_t width);

  int64_t in_, rows_ = 0;
  std::vector<float> sum_;
};

// Σ_n e_n h e_nᵀ over the rows of e [out, in]: the squared error of the layer's outputs that weight
// errors e cause.
double output_error(const Tensor& e, const Hessian& h, ThreadPool& pool);

}  // namespace narrow::quantize
