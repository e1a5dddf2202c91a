#include "quantize/cholesky.h"

#include <algorithm>

#include "quantize/blas.h"

namespace narrow::quantize {
namespace {

// Columns that one step of the factorization, or one task of the inversion, takes.
constexpr int64_t kBlock = 128;

int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }

// The upper factor of a [n, n] in its upper half, by blocks to the right (Golub and Van Loan,
// Matrix Computations, 4.2.6). False when a is not positive definite.
bool factor(std::vector<double>& a, int64_t n, ThreadPool& pool) {
  const auto stride = static_cast<int>(n);
  const auto at = [&](int64_t i, int64_t j) { return a.data() + i * n + j; };
  for (int64_t k = 0; k < n; k += kBlock) {
    const int64_t rest = std::min(n, k + kBlock);
    const auto width = static_cast<int>(rest - k);
    int info = 0;
    // Row-major upper is column-major lower.
    blas().dpotrf("L", &width, at(k, k), &stride, &info);
    if (info != 0) return false;
    pool.parallel_for(blocks_of(n - rest), 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = rest + begin * kBlock; j < std::min(n, rest + end * kBlock); j += kBlock)
        blas().dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, width,
                     static_cast<int>(std::min(kBlock, n - j)), 1.0, at(k, k), stride, at(k, j),
                     stride);
    });
    pool.parallel_for(blocks_of(n - rest), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = rest + begin * kBlock; i < std::min(n, rest + end * kBlock); i += kBlock)
        blas().dgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                     static_cast<int>(std::min(kBlock, n - i)), static_cast<int>(n - i), width,
                     -1.0, at(k, i), stride, at(k, i), stride, 1.0, at(i, i), stride);
    });
  }
  return true;
}

}  // namespace

std::vector<float> inverse_factor(const std::vector<float>& h, int64_t n, ThreadPool& pool) {
  // a: h with rows and columns reversed, factored as WᵀW. Reversed back, Wᵀ becomes R, upper, with
  // h = R Rᵀ; so h⁻¹ = R⁻ᵀ R⁻¹ and U = R⁻¹, the reversed transpose of W⁻¹.
  std::vector<double> a(h.size());
  pool.parallel_for(n, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * n; i < end * n; ++i)
      a[static_cast<size_t>(i)] = h[h.size() - 1 - static_cast<size_t>(i)];
  });
  if (!factor(a, n, pool)) return {};
  std::vector<float> u(h.size(), 0.0f);
  pool.parallel_for(blocks_of(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin * kBlock; j < std::min(n, end * kBlock); j += kBlock) {
      // Columns j … of the inverse, which are zero below their diagonal.
      const int64_t height = std::min(n, j + kBlock), width = height - j;
      std::vector<double> columns(static_cast<size_t>(height * width), 0.0);
      for (int64_t c = 0; c < width; ++c) columns[static_cast<size_t>((j + c) * width + c)] = 1;
      blas().dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit,
                   static_cast<int>(height), static_cast<int>(width), 1.0, a.data(),
                   static_cast<int>(n), columns.data(), static_cast<int>(width));
      for (int64_t c = 0; c < width; ++c)
        for (int64_t i = 0; i <= j + c; ++i)
          u[static_cast<size_t>((n - 1 - j - c) * n + (n - 1 - i))] =
              static_cast<float>(columns[static_cast<size_t>(i * width + c)]);
    }
  });
  return u;
}

}  // namespace narrow::quantize
