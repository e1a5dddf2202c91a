#include "quantize/hessian.h"

#include <algorithm>
#include <utility>

#include "quantize/blas.h"

namespace narrow::quantize {
namespace {

// Rows and columns of a product that one task computes: fixed, so that sums do not depend on the
// threads; and large, since OpenBLAS first copies both factors of a task.
constexpr int64_t kSquare = 384;
constexpr int64_t kMirrorSquare = 32;

}  // namespace

Hessian::Hessian(int64_t in) : in_(in), sum_(static_cast<size_t>(in * in), 0.0f) {}

void Hessian::add(const float* x, int64_t rows, ThreadPool& pool) {
  // Squares of the upper half, row by row of squares; the other half is its mirror.
  std::vector<std::pair<int64_t, int64_t>> squares;
  for (int64_t i = 0; i < in_; i += kSquare)
    for (int64_t j = i; j < in_; j += kSquare) squares.emplace_back(i, j);
  pool.parallel_for(static_cast<int64_t>(squares.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const auto [i0, j0] = squares[static_cast<size_t>(s)];
      const int64_t height = std::min(kSquare, in_ - i0), width = std::min(kSquare, in_ - j0);
      blas().sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, static_cast<int>(height),
                   static_cast<int>(width), static_cast<int>(rows), 1.0f, x + i0,
                   static_cast<int>(in_), x + j0, static_cast<int>(in_), 1.0f,
                   sum_.data() + i0 * in_ + j0, static_cast<int>(in_));
      mirror(i0, j0, height, width);
    }
  });
  rows_ += rows;
}

void Hessian::mirror(int64_t i0, int64_t j0, int64_t height, int64_t width) {
  // In smaller squares, since one of the two is walked against its rows.
  for (int64_t a = i0; a < i0 + height; a += kMirrorSquare)
    for (int64_t b = std::max(j0, a); b < j0 + width; b += kMirrorSquare)
      for (int64_t i = a; i < std::min(a + kMirrorSquare, i0 + height); ++i)
        for (int64_t j = std::max(b, i + 1); j < std::min(b + kMirrorSquare, j0 + width); ++j)
          sum_[static_cast<size_t>(j * in_ + i)] = sum_[static_cast<size_t>(i * in_ + j)];
}

void Hessian::divide_inputs(const std::vector<float>& scales, ThreadPool& pool) {
  pool.parallel_for(in_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < in_; ++j)
        sum_[static_cast<size_t>(i * in_ + j)] /=
            scales[static_cast<size_t>(i)] * scales[static_cast<size_t>(j)];
  });
}

double output_error(const Tensor& e, const Hessian& h, ThreadPool& pool) {
  const int64_t out = e.dim(0), in = e.dim(1);
  const float* data = e.as<float>().data();
  // h is symmetric: each square of rows of e and columns of h multiplies the columns up to its own,
  // and what lies left of the diagonal square counts twice. Widest first, for the threads' sake.
  std::vector<std::pair<int64_t, int64_t>> squares;
  for (int64_t j = (in - 1) / kSquare * kSquare; j >= 0; j -= kSquare)
    for (int64_t n = 0; n < out; n += kSquare) squares.emplace_back(n, j);
  std::vector<double> sums(squares.size(), 0.0);
  pool.parallel_for(static_cast<int64_t>(squares.size()), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> product(static_cast<size_t>(kSquare * kSquare));
    for (int64_t s = begin; s < end; ++s) {
      const int64_t n0 = squares[static_cast<size_t>(s)].first;
      const int64_t j0 = squares[static_cast<size_t>(s)].second;
      const int64_t rows = std::min(kSquare, out - n0), width = std::min(kSquare, in - j0);
      const auto add = [&](int64_t i0, int64_t depth, double times) {
        if (depth == 0) return;
        blas().sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows),
                     static_cast<int>(width), static_cast<int>(depth), 1.0f, data + n0 * in + i0,
                     static_cast<int>(in), h.sum().data() + i0 * in + j0, static_cast<int>(in),
                     0.0f, product.data(), static_cast<int>(kSquare));
        for (int64_t r = 0; r < rows; ++r) {
          const float* row = data + (n0 + r) * in + j0;
          for (int64_t c = 0; c < width; ++c)
            sums[static_cast<size_t>(s)] +=
                times * product[static_cast<size_t>(r * kSquare + c)] * row[c];
        }
      };
      add(0, j0, 2);
      add(j0, width, 1);
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace narrow::quantize
