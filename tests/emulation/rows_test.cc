// Norms, codes, the activation function, the rotation and copies of rows (norm.cu, rows.cu,
// rope.cu) on the host: codes and scales are those of every backend (ops/activation.h), other
// numbers those of the formula, and a row's bits are the same whatever the number of rows, though
// few and many have kernels of their own.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "emulation/block.h"
#include "ops/activation.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/kernels.h"
#include "tensor/dtype.h"

namespace narrow::ops::cuda {

namespace {
bool clusters_there = true;
}  // namespace
bool has_clusters() { return clusters_there; }

namespace {

constexpr Codes kKinds[] = {Codes::int8, Codes::fp8};

// Rows of different magnitudes, among them zeros and numbers whose scale is subnormal.
std::vector<bf16> some_rows(int64_t rows, int64_t cols) {
  constexpr float kSpreads[] = {1, 0, 1e-38f, 3e4f, 0.02f};
  std::vector<bf16> x;
  for (int64_t row = 0; row < rows; ++row) {  // a row is the same among any others
    std::mt19937 random(static_cast<unsigned>(row));
    std::normal_distribution<float> normal(0, 1);
    for (int64_t c = 0; c < cols; ++c) x.push_back(to_bf16(kSpreads[row % 5] * normal(random)));
  }
  return x;
}

std::vector<float> row_of(const std::vector<bf16>& x, int64_t row, int64_t cols) {
  std::vector<float> numbers;
  for (int64_t c = 0; c < cols; ++c)
    numbers.push_back(to_float(x[static_cast<size_t>(row * cols + c)]));
  return numbers;
}

// Of the launch to come, the first thread that waits for the kernel in front has written nothing
// here by then, though it may have rehearsed.
template <class T>
void expect_untouched_until_wait(const std::vector<T>& numbers) {
  emulation::before_wait = [&numbers, before = numbers] {
    EXPECT_EQ(std::memcmp(numbers.data(), before.data(), numbers.size() * sizeof(T)), 0);
  };
}
// Behind that launch.
void expect_waited() {
  EXPECT_FALSE(std::exchange(emulation::before_wait, nullptr)) << "no thread waited";
}

// Codes that a kernel leaves, in rows that are longer than those they are of.
class Quantized {
 public:
  Quantized(Codes kind, int64_t rows, int64_t cols)
      : kind_(kind),
        cols_(cols),
        stride_((cols + kByteStep - 1) / kByteStep * kByteStep),
        codes_(static_cast<size_t>(rows * stride_), 0xee),
        scales_(static_cast<size_t>(rows), -1) {}

  QuantizedRows to() {
    expect_untouched_until_wait(codes_);
    return {kind_, codes_.data(), scales_.data(), stride_};
  }

  void expect_codes_of(const std::vector<bf16>& x) const {
    expect_waited();
    for (size_t row = 0; row < scales_.size(); ++row) {
      const std::vector<float> numbers = row_of(x, static_cast<int64_t>(row), cols_);
      std::vector<uint8_t> expected(static_cast<size_t>(stride_), 0);
      const float scale = kind_ == Codes::int8
                              ? quantize_int8(numbers, reinterpret_cast<int8_t*>(expected.data()))
                              : quantize_fp8(numbers, reinterpret_cast<f8_e4m3*>(expected.data()));
      auto codes =
          std::vector(&codes_[row * expected.size()], &codes_[(row + 1) * expected.size()]);
      // The quotient of a zero below zero is the other zero there (Quotient in numbers.cuh).
      for (auto* of : {&codes, &expected})
        if (kind_ == Codes::fp8) std::replace(of->begin(), of->end(), 0x80, 0);
      ASSERT_EQ(scales_[row], scale) << where(row);
      ASSERT_EQ(codes, expected) << where(row);
    }
  }

 private:
  std::string where(size_t row) const {
    return "row " + std::to_string(row) + " of " + std::to_string(scales_.size()) + ", " +
           std::to_string(cols_) + " numbers, kind " + std::to_string(static_cast<int>(kind_));
  }

  Codes kind_;
  int64_t cols_, stride_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
};

// Rounding to bf16 moves a number by 1/512 of it at most; twice that is let pass.
constexpr double kRounding = 1.0 / 256;

void expect_near(float got, double expected, double smallest, const std::string& where) {
  ASSERT_LE(std::fabs(got - expected), std::fabs(expected) * kRounding + smallest)
      << where << ": " << got << " in place of " << expected;
}

struct Shape {
  bool clusters;
  int64_t rows, cols;
};

void check_codes(Codes kind, int64_t rows, int64_t cols) {
  const std::vector<bf16> x = some_rows(rows, cols);
  Quantized quantized(kind, rows, cols);
  quantize_rows(x.data(), quantized.to(), rows, cols, nullptr);
  quantized.expect_codes_of(x);
  if (cols % 8 != 0) return;
  std::vector<uint32_t> largest;
  for (int64_t row = 0; row < rows; ++row) {
    float most = 0;
    for (const float number : row_of(x, row, cols)) most = std::max(most, std::fabs(number));
    largest.push_back(std::bit_cast<uint32_t>(most));
  }
  Quantized of_known(kind, rows, cols);
  quantize_known_rows(x.data(), largest.data(), of_known.to(), rows, cols, nullptr);
  of_known.expect_codes_of(x);
}

// Rows of a thread's one, two, four and eight pieces, and of single numbers; with and without a
// rehearsal; of blocks and of clusters.
TEST(Rows, HaveTheCodesOfEveryBackend) {
  for (const Shape& shape : {Shape{true, 6, 8},
                             {true, 6, 200},
                             {true, 6, 201},
                             {true, 5, 4096},
                             {true, 32, 8200},
                             {true, 33, 8200},
                             {false, 6, 8200},
                             {false, 70, 1000},
                             {false, 513, 2056},
                             {false, 513, 4104},
                             {false, 2, 40000}}) {
    clusters_there = shape.clusters;
    for (const Codes kind : kKinds) check_codes(kind, shape.rows, shape.cols);
  }
}

TEST(Rows, AreActivated) {
  for (const auto& [clusters, rows, cols] : {Shape{true, 6, 200},
                                             {true, 6, 201},
                                             {true, 40, 4104},
                                             {true, 3, 14336},
                                             {false, 3, 14336},
                                             {false, 2, 40000}}) {
    clusters_there = clusters;
    const std::vector<bf16> gate_up = some_rows(rows, 2 * cols);
    std::vector<bf16> y(static_cast<size_t>(rows * cols), to_bf16(NAN));
    silu_mul(gate_up.data(), y.data(), {}, rows, cols, nullptr);
    for (int64_t row = 0; row < rows; ++row) {
      const std::vector<float> of = row_of(gate_up, row, 2 * cols), got = row_of(y, row, cols);
      for (size_t c = 0; c < got.size(); ++c) {
        const double gate = of[c], up = of[c + got.size()];
        // Below -88 the exponential is infinite in float32 and the product zero: of numbers as
        // large as these, less than 1e-28 otherwise.
        expect_near(got[c], gate / (1 + std::exp(-gate)) * up, 1e-28,
                    "row " + std::to_string(row) + ", column " + std::to_string(c));
      }
    }
    for (const Codes kind : kKinds) {
      Quantized quantized(kind, rows, cols);
      silu_mul(gate_up.data(), nullptr, quantized.to(), rows, cols, nullptr);
      quantized.expect_codes_of(y);
    }
  }
}

class Norm {
 public:
  explicit Norm(int64_t cols) : cols_(cols) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    for (int64_t c = 0; c < cols; ++c) gamma_.push_back(normal(random));
  }

  std::vector<bf16> of(const std::vector<bf16>& x) const {
    std::vector<bf16> y(x.size(), to_bf16(NAN));
    expect_untouched_until_wait(y);
    rms_norm(x.data(), gamma_.data(), kEpsilon, y.data(), {}, nullptr, rows(x), cols_, nullptr);
    expect_waited();
    return y;
  }

  void expect_formula(const std::vector<bf16>& x, const std::vector<bf16>& y) const {
    for (int64_t row = 0; row < rows(x); ++row) {
      const std::vector<float> from = row_of(x, row, cols_), to = row_of(y, row, cols_);
      double squares = 0;
      for (const float number : from) squares += double{number} * number;
      const double factor = 1 / std::sqrt(squares / static_cast<double>(cols_) + double{kEpsilon});
      for (size_t c = 0; c < to.size(); ++c)  // 1e-38: of subnormal numbers
        expect_near(to[c], from[c] * factor * gamma_[c], 1e-38,
                    "row " + std::to_string(row) + ", column " + std::to_string(c));
    }
  }

  // Codes are those of the normalized row, and what a product's largest numbers go to is cleared.
  void expect_codes(const std::vector<bf16>& x, const std::vector<bf16>& y) const {
    for (const Codes kind : kKinds) {
      Quantized quantized(kind, rows(x), cols_);
      std::vector<uint32_t> cleared(static_cast<size_t>(rows(x)), 7);
      rms_norm(x.data(), gamma_.data(), kEpsilon, nullptr, quantized.to(), cleared.data(), rows(x),
               cols_, nullptr);
      quantized.expect_codes_of(y);
      EXPECT_EQ(cleared, std::vector<uint32_t>(cleared.size(), 0));
    }
  }

 private:
  static constexpr float kEpsilon = 1e-5f;
  int64_t rows(const std::vector<bf16>& x) const { return static_cast<int64_t>(x.size()) / cols_; }

  int64_t cols_;
  std::vector<float> gamma_;
};

// Up to 64 rows, 256, 1024 and more have kernels of their own where rows are short.
TEST(Rows, AreNormalizedWithTheSameBitsAmongMany) {
  clusters_there = true;
  for (const auto& [cols, most] : {std::pair<int64_t, int64_t>{1000, 258},
                                   {999, 66},
                                   {1024, 1026},
                                   {6144, 1026},
                                   {12000, 66},
                                   {20000, 66}}) {
    const Norm norm(cols);
    const std::vector<bf16> all = some_rows(most, cols), y = norm.of(all);
    norm.expect_formula(all, y);
    for (const int64_t rows : {int64_t{5}, int64_t{66}, int64_t{258}, int64_t{1026}}) {
      if (rows > most) break;
      const std::vector<bf16> some(all.begin(), all.begin() + rows * cols), got = norm.of(some);
      EXPECT_EQ(std::memcmp(got.data(), y.data(), got.size() * sizeof(bf16)), 0)
          << rows << " rows of " << cols;
      norm.expect_codes(some, y);
    }
  }
}

float number(const bf16& value) { return to_float(value); }
float number(uint8_t code) { return to_float(f8_e4m3{code}); }
bf16 rounded(float value, bf16) { return to_bf16(value); }
uint8_t rounded(float value, uint8_t) { return to_f8_e4m3(value).bits; }

// Pairs half a head apart, and keys and values in the cache.
template <class Kv>
void check_rotation(int head_dim) {
  constexpr int kHeads = 6, kKvHeads = 2, kRows = 5, kAll = kHeads + 2 * kKvHeads, kPositions = 40;
  const int half = head_dim / 2, width = kAll * head_dim;
  const std::vector<int32_t> positions = {0, 7, 39, 3, 20}, slots = {17, 2, -1, 31, 0};
  std::vector<float> cosine, sine;
  for (int i = 0; i < kPositions * half; ++i) {
    cosine.push_back(std::cos(static_cast<float>(i)));
    sine.push_back(std::sin(static_cast<float>(i)));
  }
  std::vector<Kv> cache(static_cast<size_t>(2 * 2 * kKvHeads * 16 * head_dim), rounded(3, Kv()));
  const std::vector<bf16> before = some_rows(kRows, width);
  std::vector<bf16> qkv = before;
  DeviceBatch batch;
  batch.rows = kRows;
  batch.positions = positions.data();
  batch.slots = slots.data();
  rope_and_store(batch,
                 {kHeads, kKvHeads, head_dim, 1, cache.data(), sizeof(Kv) == 1, /*blocks=*/2},
                 cosine.data(), sine.data(), qkv.data(), nullptr);
  std::vector<Kv> expected_cache(cache.size(), rounded(3, Kv()));
  for (int row = 0; row < kRows; ++row)
    for (int head = 0; head < kAll; ++head)
      for (int d = 0; d < head_dim; ++d) {
        const auto at = static_cast<size_t>(row * width + head * head_dim + d);
        const bf16 got = qkv[at];
        if (head >= kHeads + kKvHeads) {
          ASSERT_EQ(got.bits, before[at].bits);  // a value
        } else {
          const size_t table = static_cast<size_t>(positions[row] * half + d % half);
          const bool low = d < half;
          const size_t other =
              low ? at + static_cast<size_t>(half) : at - static_cast<size_t>(half);
          const double x = to_float(before[at]), y = to_float(before[other]);
          const double exact = x * cosine[table] + (low ? -y : y) * sine[table];
          ASSERT_LE(std::fabs(to_float(got) - exact), std::hypot(x, y) * kRounding + 1e-38);
        }
        if (head < kHeads || slots[row] < 0) continue;
        const int block = slots[row] / 16, kv_head = head - kHeads;
        expected_cache[static_cast<size_t>(
            ((block * 2 * kKvHeads + kv_head) * 16 + slots[row] % 16) * head_dim + d)] =
            rounded(to_float(got), Kv());
      }
  for (size_t i = 0; i < cache.size(); ++i)
    ASSERT_EQ(number(cache[i]), number(expected_cache[i])) << "number " << i << " of the cache";
}

TEST(Rows, AreRotatedAndStored) {
  for (const int head_dim : {24, 64, 128}) {
    check_rotation<bf16>(head_dim);
    check_rotation<uint8_t>(head_dim);
  }
}

TEST(Rows, AreCopiedAndAdded) {
  constexpr int64_t kRows = 3;
  for (const int64_t cols : {64, 1001}) {
    const std::vector<bf16> table = some_rows(9, cols);
    const std::vector<int32_t> tokens = {4, ~1, 8}, chosen = {2, 7};
    std::vector<bf16> out(static_cast<size_t>(kRows * cols));
    embed(tokens.data(), chosen.data(), table.data(), out.data(), kRows, cols, nullptr);
    for (const auto& [row, token] : {std::pair<int64_t, int64_t>{0, 4}, {1, 7}, {2, 8}})
      EXPECT_EQ(row_of(out, row, cols), row_of(table, token, cols));

    std::vector<bf16> sum = table;
    add(sum.data(), table.data(), static_cast<int64_t>(sum.size()), nullptr);
    for (size_t i = 0; i < sum.size(); ++i)
      ASSERT_EQ(sum[i].bits, to_bf16(2 * to_float(table[i])).bits);
  }
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{3, 1064}, {40, 4104}}) {
    const std::vector<bf16> x = some_rows(rows, cols);
    std::vector<int32_t> columns(static_cast<size_t>(cols));
    for (size_t c = 0; c < columns.size(); ++c)
      columns[c] = static_cast<int32_t>(c * 11 % columns.size());
    std::vector<bf16> out(x.size());
    gather_columns(x.data(), columns.data(), out.data(), rows, cols, nullptr);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / columns.size(), c = i % columns.size();
      ASSERT_EQ(out[i].bits, x[row * columns.size() + static_cast<size_t>(columns[c])].bits);
    }
  }
}

}  // namespace
}  // namespace narrow::ops::cuda
