// What the tests of the device share: random operands, and a fixture with `cuda` and `reference`.
// Activations are bf16 here and float32 there: inputs are bf16 values, so that what is compared is
// the arithmetic. NARROW_CUDA_TEST_KERNELS=portable: the portable kernels, on Hopper too.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>

#include "base/error.h"
#include "ops/backend.h"
#include "ops/cuda_plugin.h"

namespace narrow::ops {

inline std::mt19937 random_numbers(7);

inline Tensor normal(std::vector<int64_t> shape, DType dtype, float spread = 1) {
  std::normal_distribution<float> distribution(0, spread);
  Tensor tensor(DType::f32, std::move(shape));
  for (float& value : tensor.as<float>()) value = distribution(random_numbers);
  return tensor.to(dtype);
}

// As quantize writes them: random codes, scales such that weights have a spread of about 0.02.
inline PackedLinear layer(const std::string& format, int64_t out, int64_t in, int64_t group,
                          bool bias) {
  PackedLinear linear;
  linear.out = out;
  linear.in = in;
  if (bias) linear.bias = normal({out}, DType::bf16);
  if (format == "bf16") {
    linear.weight = normal({out, in}, DType::bf16, 0.02f);
    return linear;
  }
  linear.scheme = scheme_of_format(format, group);
  QuantArgs& args = *linear.scheme.weights;
  if (group == in && args.strategy == QuantArgs::Strategy::group)
    args.strategy = QuantArgs::Strategy::channel;
  const int64_t groups = args.strategy == QuantArgs::Strategy::group ? in / group : 1;
  linear.scale = normal({out, groups}, DType::bf16, args.bits == 4 ? 0.005f : 0.0003f);
  for (bf16& scale : linear.scale.as<bf16>()) scale.bits &= 0x7fff;
  if (args.type == QuantArgs::Type::floating) {
    linear.weight = normal({out, in}, DType::f8_e4m3, 60);
    return linear;
  }
  const int half = 1 << (args.bits - 1);
  std::uniform_int_distribution<int> code(-half, half - 1);
  Tensor codes(DType::i8, {out, in});
  for (int8_t& value : codes.as<int8_t>()) value = static_cast<int8_t>(code(random_numbers));
  linear.weight = linear.scheme.inputs ? codes : pack_codes(codes, args.bits);
  if (!args.symmetric) {
    linear.zero_point = Tensor(DType::i8, {out, groups});
    for (int8_t& value : linear.zero_point.as<int8_t>())
      value = static_cast<int8_t>(code(random_numbers));
  }
  return linear;
}

// Columns given to the groups of `linear` in a random order: legacy act-order.
inline void shuffle_groups(PackedLinear& linear) {
  const int64_t size = linear.scheme.weights->group_size;
  linear.group_index = Tensor(DType::i32, {linear.in});
  const auto groups = linear.group_index.as<int32_t>();
  for (size_t c = 0; c < groups.size(); ++c)
    groups[c] = static_cast<int32_t>(static_cast<int64_t>(c) / size);
  std::shuffle(groups.begin(), groups.end(), random_numbers);
}

// The rows of `few`, one behind the other again and again, `rows` in all.
inline Tensor repeated_rows(const Tensor& few, int64_t rows) {
  if (few.empty()) return {};
  std::vector<int64_t> shape = few.shape();
  const int64_t bytes_of_row = few.size_bytes() / shape[0];
  shape[0] = rows;
  Tensor many(few.dtype(), shape);
  for (int64_t r = 0; r < rows; r += few.dim(0))
    std::memcpy(many.data() + r * bytes_of_row, few.data(),
                static_cast<size_t>(std::min(rows - r, few.dim(0)) * bytes_of_row));
  return many;
}

// A layer of `out` outputs that are those of `few` again and again.
inline PackedLinear repeated(const PackedLinear& few, int64_t out) {
  PackedLinear many = few;
  many.out = out;
  many.weight = repeated_rows(few.weight, out);
  many.scale = repeated_rows(few.scale, out);
  many.zero_point = repeated_rows(few.zero_point, out);
  many.bias = repeated_rows(few.bias, out);
  return many;
}

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
