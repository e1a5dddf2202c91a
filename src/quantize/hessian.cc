#include "quantize/hessian.h"

#include <algorithm>

#include "quantize/blas.h"

namespace narrow::quantize {
namespace {

// Columns of a product that one task computes: fixed, so that sums do not depend on the threads.
constexpr int64_t kTaskColumns = 96;
constexpr int64_t kMirrorSquare = 32;

}  // namespace

Hessian::Hessian(int64_t in) : in_(in), sum_(static_cast<size_t>(in * in), 0.0f) {}

void Hessian::add(const float* x, int64_t rows, ThreadPool& pool) {
  const int64_t tasks = (in_ + kTaskColumns - 1) / kTaskColumns;
  pool.parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      // Rows t0 … of the result, from the diagonal to the right.
      const int64_t t0 = t * kTaskColumns;
      const int64_t height = std::min(kTaskColumns, in_ - t0);
      blas().sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, static_cast<int>(height),
                   static_cast<int>(in_ - t0), static_cast<int>(rows), 1.0f, x + t0,
                   static_cast<int>(in_), x + t0, static_cast<int>(in_), 1.0f,
                   sum_.data() + t0 * in_ + t0, static_cast<int>(in_));
    }
  });
  rows_ += rows;
  // The other half, in squares, since one of the two is walked against its rows.
  pool.parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i0 = begin * kTaskColumns; i0 < std::min(end * kTaskColumns, in_);
         i0 += kMirrorSquare)
      for (int64_t j0 = i0; j0 < in_; j0 += kMirrorSquare)
        for (int64_t i = i0; i < std::min(i0 + kMirrorSquare, in_); ++i)
          for (int64_t j = std::max(j0, i + 1); j < std::min(j0 + kMirrorSquare, in_); ++j)
            sum_[static_cast<size_t>(j * in_ + i)] = sum_[static_cast<size_t>(i * in_ + j)];
  });
}

void Hessian::divide_inputs(const std::vector<float>& scales) {
  for (int64_t i = 0; i < in_; ++i)
    for (int64_t j = 0; j < in_; ++j)
      sum_[static_cast<size_t>(i * in_ + j)] /=
          scales[static_cast<size_t>(i)] * scales[static_cast<size_t>(j)];
}

std::vector<float> inverse_factor(const std::vector<float>& h, int64_t n) {
  // Reversed in rows and columns, the lower factor of h becomes R with h = R Rᵀ, R upper; then
  // h⁻¹ = R⁻ᵀ R⁻¹ and U = R⁻¹. In double, since inverting loses what float has.
  const auto size = static_cast<int>(n);
  std::vector<double> a(h.size());
  for (size_t i = 0; i < h.size(); ++i) a[i] = h[h.size() - 1 - i];
  int info = 0;
  // Row-major lower is column-major upper.
  blas().dpotrf("U", &size, a.data(), &size, &info);
  if (info != 0) return {};
  blas().dtrtri("U", "N", &size, a.data(), &size, &info);
  if (info != 0) return {};
  std::vector<float> u(h.size(), 0.0f);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j)
      u[static_cast<size_t>(i * n + j)] =
          static_cast<float>(a[static_cast<size_t>((n - 1 - i) * n + (n - 1 - j))]);
  return u;
}

double output_error(const Tensor& e, const Hessian& h, ThreadPool& pool) {
  const int64_t out = e.dim(0), in = e.dim(1);
  const float* data = e.as<float>().data();
  const int64_t tasks = (out + kTaskColumns - 1) / kTaskColumns;
  std::vector<double> sums(static_cast<size_t>(tasks), 0.0);
  pool.parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> product(static_cast<size_t>(kTaskColumns * in));
    for (int64_t t = begin; t < end; ++t) {
      const int64_t n0 = t * kTaskColumns, rows = std::min(kTaskColumns, out - n0);
      blas().sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows),
                   static_cast<int>(in), static_cast<int>(in), 1.0f, data + n0 * in,
                   static_cast<int>(in), h.sum().data(), static_cast<int>(in), 0.0f, product.data(),
                   static_cast<int>(in));
      for (int64_t i = 0; i < rows * in; ++i)
        sums[static_cast<size_t>(t)] += static_cast<double>(product[static_cast<size_t>(i)]) *
                                        static_cast<double>(data[n0 * in + i]);
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace narrow::quantize
