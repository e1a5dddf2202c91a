// Products of random operands, for tests of kernels on the host: what a kernel is given, and what
// must become of it by the formula.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "ops/cuda/kernels.h"
#include "tensor/dtype.h"

namespace narrow::emulation {

inline int processors = 3;  // of the device that is emulated

// Kinds of numbers.
struct Bf16 {
  static constexpr int kBytes = 2;
  static void store(float value, uint8_t* to) {
    const bf16 number = to_bf16(value);
    std::memcpy(to, &number, sizeof number);
  }
  static double load(const uint8_t* from) {
    bf16 number;
    std::memcpy(&number, from, sizeof number);
    return to_float(number);
  }
};
struct E4m3 {
  static constexpr int kBytes = 1;
  static void store(float value, uint8_t* to) { *to = to_f8_e4m3(value).bits; }
  static double load(const uint8_t* from) { return to_float(f8_e4m3{*from}); }
};
struct Int8 {
  static constexpr int kBytes = 1;
  static void store(float value, uint8_t* to) {
    *to = static_cast<uint8_t>(std::clamp(std::lround(40 * value), -127L, 127L));
  }
  static double load(const uint8_t* from) { return static_cast<int8_t>(*from); }
};

struct ProductShape {
  int64_t rows, out, in;  // out: of y
  bool gated = false, adds = false;
  bool f32 = false;  // y is
};

// Of rows of X and weights of W; 8-bit numbers have scales.
template <class X, class W>
class Product {
 public:
  explicit Product(const ProductShape& shape) : shape_(shape) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 1);
    const auto [rows, out, in, gated, adds, f32] = shape;
    const auto some = [&](float spread) { return spread * std::fabs(normal(random)); };
    weight_.resize(static_cast<size_t>(padded_outputs() * padded_inputs() * W::kBytes));
    for (int64_t n = 0; n < outputs(); ++n)
      for (int64_t k = 0; k < in; ++k)
        W::store(normal(random), &weight_[at<W>(n * padded_inputs() + k)]);
    for (int64_t n = 0; n < padded_outputs(); ++n) {
      column_scale_.push_back(some(0.01f));
      bias_.push_back(some(0.1f));
    }
    x_.resize(static_cast<size_t>(rows * in * X::kBytes));
    for (int64_t row = 0; row < rows; ++row) {  // a row is the same among any others
      for (int64_t k = 0; k < in; ++k) X::store(normal(random), &x_[at<X>(row * in + k)]);
      row_scale_.push_back(some(0.01f));
      for (int64_t n = 0; n < out; ++n) y_.push_back(to_bf16(normal(random)));
    }
    before_ = y_;
    if (f32) exact_.resize(y_.size());
    largest_.assign(static_cast<size_t>(rows), 0);
  }

  ops::cuda::Gemm gemm() {
    ops::cuda::Gemm of;
    of.weight = weight_.data();
    of.x = x_.data();
    of.row_scale = kRowScale ? row_scale_.data() : nullptr;
    of.column_scale = kColumnScale ? column_scale_.data() : nullptr;
    of.rows = shape_.rows;
    of.out = shape_.out;
    of.in = shape_.in;
    of.x_stride = shape_.in * X::kBytes;
    of.w_stride = padded_inputs() * W::kBytes;
    of.w_rows = shape_.gated ? outputs() : padded_outputs();
    of.gated = shape_.gated;
    of.largest = shape_.gated && kRowScale ? largest_.data() : nullptr;
    of.y.f32 = shape_.f32;
    of.y.data = shape_.f32 ? static_cast<void*>(exact_.data()) : y_.data();
    of.y.stride = shape_.out;
    of.y.bias = bias_.data();
    of.y.adds = shape_.adds;
    return of;
  }

  // Compares y with the formula, and the largest of its rows with y.
  void expect_results() const {
    for (int64_t row = 0; row < shape_.rows; ++row) {
      float most = 0;
      double size = 0, worst = 0;
      for (int64_t n = 0; n < shape_.out; ++n) {
        const auto i = static_cast<size_t>(row * shape_.out + n);
        const double expected = result(row, n, to_float(before_[i]));
        const float got = shape_.f32 ? exact_[i] : to_float(y_[i]);
        size = std::max(size, std::fabs(expected));
        worst = std::isfinite(got) ? std::max(worst, std::fabs(got - expected)) : INFINITY;
        most = std::max(most, std::fabs(got));
      }
      ASSERT_LE(worst, 0.012 * size) << describe(row);
      if (shape_.gated && kRowScale) {
        ASSERT_EQ(largest_[static_cast<size_t>(row)], std::bit_cast<uint32_t>(most))
            << describe(row);
      }
    }
  }

  // Of y in float32.
  std::vector<float> first_row() const {
    if (!shape_.f32) return {};
    return {exact_.begin(), exact_.begin() + shape_.out};
  }

 private:
  static constexpr bool kRowScale = X::kBytes == 1, kColumnScale = W::kBytes == 1;

  template <class Number>
  static size_t at(int64_t i) {
    return static_cast<size_t>(i * Number::kBytes);
  }
  int64_t outputs() const { return shape_.gated ? 2 * shape_.out : shape_.out; }
  // As kernels.h wants them.
  int64_t padded_outputs() const { return (outputs() + 15) / 16 * 16; }
  int64_t padded_inputs() const {
    const int64_t step = W::kBytes == 1 ? ops::cuda::kByteStep : ops::cuda::kDenseStep;
    return (shape_.in + step - 1) / step * step;
  }

  double output(int64_t row, int64_t n) const {
    double sum = 0;
    for (int64_t k = 0; k < shape_.in; ++k)
      sum += X::load(&x_[at<X>(row * shape_.in + k)]) *
             W::load(&weight_[at<W>(n * padded_inputs() + k)]);
    if (kRowScale) sum *= row_scale_[static_cast<size_t>(row)];
    if (kColumnScale) sum *= column_scale_[static_cast<size_t>(n)];
    return sum + bias_[static_cast<size_t>(n)];
  }
  double result(int64_t row, int64_t n, double before) const {
    if (!shape_.gated) return output(row, n) + (shape_.adds ? before : 0);
    const double gate = output(row, n);
    return gate / (1 + std::exp(-gate)) * output(row, shape_.out + n);
  }
  std::string describe(int64_t row) const {
    return "row " + std::to_string(row) + " of " + std::to_string(shape_.rows) + " by " +
           std::to_string(shape_.out) + " by " + std::to_string(shape_.in);
  }

  ProductShape shape_;
  std::vector<uint8_t> x_, weight_;
  std::vector<float> row_scale_, column_scale_, bias_;
  std::vector<bf16> y_, before_;
  std::vector<float> exact_;  // y in float32
  std::vector<uint32_t> largest_;
};

}  // namespace narrow::emulation
