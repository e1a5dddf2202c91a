// What the tests of the device share: a fixture with `cuda` and `reference`.
// Activations are bf16 here and float32 there: inputs are bf16 values, so that what is compared is
// the arithmetic. NARROW_CUDA_TEST_KERNELS=portable: the portable kernels, on Hopper too.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "ops/backend.h"
#include "ops/cuda_plugin.h"
#include "ops/random_layers.h"

namespace narrow::ops {

// How far sums of so many e4m3 products may be from exact ones on Hopper, whose tensor cores cut
// them off to some 14 bits, in parts of the largest of a row. Measured over the shapes of these
// tests: 6e-5 to 1.0e-4 times the root.
inline double e4m3_error(int64_t inputs) { return 1.2e-4 * std::sqrt(inputs); }

inline CudaKernels kernels_under_test() {
  const char* wanted = std::getenv("NARROW_CUDA_TEST_KERNELS");
  return wanted && std::string(wanted) == "portable" ? CudaKernels::portable
                                                     : CudaKernels::of_device;
}

class Cuda : public testing::Test {
 protected:
  Cuda()
      : cuda_(make_cuda_backend(0, kernels_under_test())),
        reference_(make_backend("reference")),
        portable_(cuda_->describe().find("portable kernels") != std::string::npos) {}

  // A bf16 matrix on the device.
  DeviceBuffer device(const Tensor& values) {
    const DeviceBuffer buffer = cuda_->allocate(values.size_bytes());
    cuda_->upload(buffer, values.raw());
    cuda_->synchronize();
    return buffer;
  }
  // A KV cache of these numbers, rounded to `dtype`: bf16 or e4m3.
  DeviceBuffer device_cache(const Tensor& values, DType dtype) {
    DeviceBuffer buffer = device(values.to(DType::f32).to(dtype));
    buffer.dtype = dtype;
    return buffer;
  }
  static Matrix matrix(const DeviceBuffer& buffer, int64_t rows, int64_t cols,
                       DType dtype = DType::bf16) {
    return {buffer.data.get(), dtype, rows, cols};
  }
  static Matrix host(Tensor& values) {
    return {values.data(), DType::f32, values.dim(0), values.dim(1)};
  }
  Tensor back(const DeviceBuffer& buffer, int64_t rows, int64_t cols, DType dtype = DType::bf16) {
    Tensor result(dtype, {rows, cols});
    cuda_->download(result.raw(), buffer.data.get());
    return result.to(DType::f32);
  }

  // Largest difference in units of the largest magnitude of the expected row.
  static double worst(const Tensor& got, const Tensor& expected) {
    const auto a = got.matrix<float>(), b = expected.matrix<float>();
    double result = 0;
    for (int64_t r = 0; r < b.rows; ++r) {
      double largest = 1e-30, difference = 0;
      for (int64_t c = 0; c < b.cols; ++c) {
        largest = std::max<double>(largest, std::fabs(b(r, c)));
        difference = std::max<double>(difference, std::fabs(a(r, c) - b(r, c)));
        if (!std::isfinite(a(r, c))) return INFINITY;
      }
      result = std::max(result, difference / largest);
    }
    return result;
  }

  Tensor run(const Linear& linear, const Tensor& x, DType result) {
    const DeviceBuffer in = device(x);
    const DeviceBuffer out = cuda_->allocate(x.dim(0) * linear.out() * size_of(result));
    cuda_->linear(linear, matrix(in, x.dim(0), x.dim(1)),
                  matrix(out, x.dim(0), linear.out(), result));
    return back(out, x.dim(0), linear.out(), result);
  }

  // Whether a perceptron over `x`, which is added to it, gives the bits of its operations one by
  // one.
  bool has_bits_of_parts(const Linear& gate_up, const Linear& down, const DeviceBuffer& gamma,
                         const Tensor& x) {
    const int64_t rows = x.dim(0), hidden = x.dim(1), inner = down.in();
    const DeviceBuffer normed = cuda_->allocate(rows * hidden * 2);
    const DeviceBuffer gates = cuda_->allocate(rows * 2 * inner * 2);
    const DeviceBuffer activated = cuda_->allocate(rows * inner * 2);
    const DeviceBuffer y = cuda_->allocate(rows * hidden * 2);
    const Mlp mlp{gate_up,
                  down,
                  matrix(normed, rows, hidden),
                  matrix(gates, rows, 2 * inner),
                  matrix(activated, rows, inner),
                  matrix(y, rows, hidden)};
    const DeviceBuffer a = device(x), b = device(x);
    // First, so that what it leaves out is zero and not there already.
    cuda_->norm_mlp_add(matrix(a, rows, hidden), gamma, 1e-5f, mlp);
    cuda_->Backend::norm_mlp_add(matrix(b, rows, hidden), gamma, 1e-5f, mlp);
    const Tensor got = back(a, rows, hidden), expected = back(b, rows, hidden);
    return std::memcmp(got.data(), expected.data(), static_cast<size_t>(got.size_bytes())) == 0;
  }

  // Portable kernels multiply e4m3 weights with bf16 inputs.
  Tensor expected_product(const PackedLinear& packed, const Tensor& x) {
    Tensor wide = x.to(DType::f32), expected(DType::f32, {x.dim(0), packed.out});
    PackedLinear run = packed;
    const bool weights_alone = portable_ && packed.scheme.inputs &&
                               packed.scheme.inputs->type == QuantArgs::Type::floating;
    if (weights_alone) run.scheme.inputs.reset();
    // The scale is applied to the sum, not rounded into bf16 weights.
    const bool scaled_sum = weights_alone && packed.in % 8 == 0;
    if (scaled_sum)
      for (bf16& scale : (run.scale = Tensor(DType::bf16, {packed.out, 1})).as<bf16>())
        scale = to_bf16(1);
    const auto linear = reference_->prepare(std::span(&run, 1));
    reference_->linear(*linear, host(wide), host(expected));
    if (scaled_sum) {
      const Tensor scales = packed.scale.to(DType::f32);
      auto values = expected.as<float>();
      for (size_t i = 0; i < values.size(); ++i)
        values[i] *= scales.as<float>()[i % static_cast<size_t>(packed.out)];
    }
    return expected;
  }

  std::unique_ptr<Backend> cuda_, reference_;
  bool portable_;
};

}  // namespace narrow::ops
