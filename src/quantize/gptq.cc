#include "quantize/gptq.h"

#include <algorithm>
#include <numeric>

#include "quantize/blas.h"
#include "quantize/cholesky.h"
#include "quantize/rounding.h"

namespace narrow::quantize {
namespace {

// Columns whose errors are fed back at once to the rest (the paper's lazy batch).
constexpr int64_t kBlock = 128;
// Rows of the weight that one task works on: OpenBLAS copies the factor anew for each task.
constexpr int64_t kTaskRows = 64;

}  // namespace

GptqResult gptq(const Tensor& weight, const Hessian& hessian, const Scheme& scheme,
                const GptqOptions& options, ThreadPool& pool) {
  const int64_t out = weight.dim(0), in = weight.dim(1);
  const QuantArgs& args = *scheme.weights;
  const Scales scales = observe(weight.matrix<float>(), args, options.observer, pool);

  std::vector<int32_t> order(static_cast<size_t>(in));
  std::iota(order.begin(), order.end(), 0);
  if (options.by_activity) {
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return hessian.diagonal(a) > hessian.diagonal(b);
    });
  }
  // Damped Hessian in that order; inputs that never move get a unit diagonal and weight zero.
  double mean = 0;
  std::vector<float> h(hessian.sum().size());
  std::vector<char> dead(static_cast<size_t>(in), 0);
  pool.parallel_for(in, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* from = hessian.sum().data() + order[static_cast<size_t>(i)] * in;
      for (int64_t j = 0; j < in; ++j)
        h[static_cast<size_t>(i * in + j)] = from[order[static_cast<size_t>(j)]];
    }
  });
  for (int64_t i = 0; i < in; ++i) {
    float& diagonal = h[static_cast<size_t>(i * in + i)];
    dead[static_cast<size_t>(i)] = diagonal == 0;
    if (diagonal == 0) diagonal = 1;
    mean += diagonal;
  }
  const auto damp = static_cast<float>(options.damping * mean / static_cast<double>(in));
  for (int64_t i = 0; i < in; ++i) h[static_cast<size_t>(i * in + i)] += damp;

  GptqResult result;
  const std::vector<float> u = inverse_factor(h, in, pool);
  result.fell_back = u.empty();

  Tensor w(DType::f32, {out, in});
  Tensor codes(DType::f32, {out, in});
  const float* original = weight.as<float>().data();
  float* working = w.as<float>().data();
  const int64_t tasks = (out + kTaskRows - 1) / kTaskRows;
  pool.parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> errors(static_cast<size_t>(kTaskRows * kBlock));
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r0 = t * kTaskRows, r1 = std::min(out, r0 + kTaskRows);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t i = 0; i < in; ++i)
          working[r * in + i] = dead[static_cast<size_t>(i)] && !result.fell_back
                                    ? 0.0f
                                    : original[r * in + order[static_cast<size_t>(i)]];
      for (int64_t block = 0; block < in; block += kBlock) {
        const int64_t stop = std::min(in, block + kBlock);
        for (int64_t r = r0; r < r1; ++r) {
          float* row = working + r * in;
          float* error_row = errors.data() + (r - r0) * kBlock;
          for (int64_t i = block; i < stop; ++i) {
            const int64_t column = order[static_cast<size_t>(i)];
            const int64_t at = r * scales.groups + column / scales.group_size;
            const float scale = scales.scale[static_cast<size_t>(at)], zero = scales.zero(at);
            const float code = code_of(row[i], scale, zero, args, /*round_quotient=*/false);
            codes.as<float>()[static_cast<size_t>(r * in + column)] = code;
            if (result.fell_back) continue;
            const float* factor = u.data() + i * in;
            const float error = (row[i] - (code - zero) * scale) / factor[i];
            error_row[i - block] = error;
            for (int64_t j = i + 1; j < stop; ++j) row[j] -= error * factor[j];
          }
        }
        if (result.fell_back || stop == in) continue;
        blas().sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(r1 - r0),
                     static_cast<int>(in - stop), static_cast<int>(stop - block), -1.0f,
                     errors.data(), static_cast<int>(kBlock), u.data() + block * in + stop,
                     static_cast<int>(in), 1.0f, working + r0 * in + stop, static_cast<int>(in));
      }
    }
  });
  result.linear = pack(codes, scales, scheme);
  return result;
}

}  // namespace narrow::quantize
