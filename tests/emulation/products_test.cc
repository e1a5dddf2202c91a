// Products of gemm.cuh on the host, against the formula: their ring of tiles, their barriers, and
// how tiles are written, whatever the rows, and with the same bits alone and among many.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "emulation/tiles.h"
#include "ops/cuda/gemm.cuh"
#include "tensor/dtype.h"

namespace narrow::ops::cuda {

int processors() { return 3; }

namespace {

// A product of random operands, and what becomes of it. out: of y.
template <MmaType type>
struct Product {
  static constexpr bool kScaled = type != MmaType::bf16;
  static constexpr int kElementBytes = kScaled ? 1 : 2;

  int64_t rows, out, in;
  bool gated, adds;
  std::vector<uint8_t> x, weight;
  std::vector<float> row_scale, column_scale, bias;
  std::vector<bf16> y;
  std::vector<uint32_t> largest;

  Product(int64_t of_rows, int64_t of_out, int64_t of_in, bool is_gated, bool is_added)
      : rows(of_rows), out(of_out), in(of_in), gated(is_gated), adds(is_added) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 1);
    const auto fill = [&](std::vector<uint8_t>& numbers, int64_t count) {
      numbers.resize(static_cast<size_t>(count * kElementBytes));
      for (int64_t i = 0; i < count; ++i) {
        const float value = normal(random);
        if constexpr (type == MmaType::bf16) {
          const bf16 number = to_bf16(value);
          std::memcpy(&numbers[static_cast<size_t>(2 * i)], &number, 2);
        } else if constexpr (type == MmaType::e4m3) {
          numbers[static_cast<size_t>(i)] = to_f8_e4m3(value).bits;
        } else {
          numbers[static_cast<size_t>(i)] = static_cast<uint8_t>(
              static_cast<int8_t>(std::clamp(std::lround(40 * value), -127L, 127L)));
        }
      }
    };
    fill(x, rows * in);
    fill(weight, weight_rows() * in);
    const auto some = [&](std::vector<float>& values, int64_t count, float spread) {
      values.resize(static_cast<size_t>(count));
      for (float& value : values) value = spread * std::fabs(normal(random));
    };
    some(row_scale, rows, 0.01f);
    some(column_scale, weight_rows(), 0.01f);
    some(bias, weight_rows(), 0.1f);
    y.resize(static_cast<size_t>(rows * out));
    for (bf16& value : y) value = to_bf16(normal(random));
    largest.assign(static_cast<size_t>(rows), 0);
  }

  int64_t weight_rows() const { return gated ? 2 * out : out; }

  Gemm gemm() {
    Gemm of;
    of.weight = weight.data();
    of.x = x.data();
    of.row_scale = kScaled ? row_scale.data() : nullptr;
    of.column_scale = kScaled ? column_scale.data() : nullptr;
    of.rows = rows;
    of.out = out;
    of.in = in;
    of.x_stride = of.w_stride = in * kElementBytes;
    of.w_rows = weight_rows();
    of.gated = gated;
    of.largest = gated && kScaled ? largest.data() : nullptr;
    of.y.data = y.data();
    of.y.stride = out;
    of.y.bias = bias.data();
    of.y.adds = adds;
    return of;
  }

  static double number(const std::vector<uint8_t>& numbers, int64_t at) {
    if constexpr (type == MmaType::bf16) {
      bf16 value;
      std::memcpy(&value, &numbers[static_cast<size_t>(2 * at)], 2);
      return to_float(value);
    } else if constexpr (type == MmaType::e4m3) {
      return to_float(f8_e4m3{numbers[static_cast<size_t>(at)]});
    } else {
      return static_cast<int8_t>(numbers[static_cast<size_t>(at)]);
    }
  }

  double output(int64_t row, int64_t n) const {
    double sum = 0;
    for (int64_t k = 0; k < in; ++k) sum += number(x, row * in + k) * number(weight, n * in + k);
    if (kScaled) sum *= row_scale[static_cast<size_t>(row)] * column_scale[static_cast<size_t>(n)];
    return sum + bias[static_cast<size_t>(n)];
  }
  double result(int64_t row, int64_t n, double before) const {
    if (!gated) return output(row, n) + (adds ? before : 0);
    const double gate = output(row, n);
    return gate / (1 + std::exp(-gate)) * output(row, out + n);
  }

  // Compares with what `before` has become.
  void expect_results(const std::vector<bf16>& before) const {
    for (int64_t row = 0; row < rows; ++row) {
      float most = 0;
      double size = 0, worst = 0;
      for (int64_t n = 0; n < out; ++n) {
        const auto at = static_cast<size_t>(row * out + n);
        const double expected = result(row, n, to_float(before[at])), got = to_float(y[at]);
        size = std::max(size, std::fabs(expected));
        worst = std::isfinite(got) ? std::max(worst, std::fabs(got - expected)) : INFINITY;
        most = std::max(most, std::fabs(to_float(y[at])));
      }
      ASSERT_LE(worst, 0.012 * size) << "row " << row << " of " << rows;
      if (gated && kScaled) {
        ASSERT_EQ(largest[static_cast<size_t>(row)], __float_as_uint(most)) << "row " << row;
      }
    }
  }
};

template <MmaType type, int kConsumers, int kOut, int kAtoms, bool kGated = false>
void check(int64_t rows, int64_t out, int64_t in, bool adds = false) {
  Product<type> product(rows, out, in, kGated, adds);
  const std::vector<bf16> before = product.y;
  launch_gemm<type, kConsumers, kOut, kAtoms, kGated>(product.gemm(), nullptr);
  product.expect_results(before);
  if (testing::Test::HasFatalFailure())
    ADD_FAILURE() << "type " << static_cast<int>(type) << ", tiles of " << kOut << " outputs, "
                  << rows << " by " << out << " by " << in;
}

// More inputs than the ring has stages, and fewer; tiles and rows that are not whole; more tiles
// than blocks.
template <MmaType type, int kOut, int kAtoms>
void check_few_rows() {
  constexpr int64_t kStep = type == MmaType::bf16 ? 64 : 128;  // inputs of an atom
  check<type, 1, kOut, kAtoms>(5, kOut + 8, 24 * kStep);
  check<type, 1, kOut, kAtoms>(64, 6 * kOut - 8, 2 * kStep);
  check<type, 1, kOut, kAtoms>(50, 3 * kOut, 11 * kStep, /*adds=*/true);
}

TEST(Products, OfFewRows) {
  check_few_rows<MmaType::bf16, 32, 2>();
  check_few_rows<MmaType::bf16, 48, 1>();
  check_few_rows<MmaType::int8, 32, 2>();
  check_few_rows<MmaType::e4m3, 32, 2>();
  check_few_rows<MmaType::e4m3, 64, 1>();
}

TEST(Products, OfManyRows) {
  check<MmaType::bf16, 2, 64, 1>(200, 136, 640);
  check<MmaType::int8, 2, 96, 1>(130, 200, 1408, /*adds=*/true);
  check<MmaType::e4m3, 2, 96, 1>(257, 104, 1280);
}

TEST(Products, WithTheActivationFindTheLargestOfEachRow) {
  check<MmaType::bf16, 1, 64, 1, true>(20, 104, 192);
  check<MmaType::int8, 1, 64, 2, true>(33, 136, 512);
  check<MmaType::e4m3, 1, 64, 2, true>(64, 72, 768);
  check<MmaType::int8, 2, 128, 1, true>(150, 100, 256);
  check<MmaType::e4m3, 2, 128, 1, true>(130, 104, 1152);
}

}  // namespace
}  // namespace narrow::ops::cuda
