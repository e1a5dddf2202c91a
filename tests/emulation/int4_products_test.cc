// Products of 4-bit weights (gemm_int4.cu, gemm_int4_split.cu, skinny_int4.cu) on the host: every
// tile against the formula, and with the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "emulation/products.h"
#include "ops/cuda/gemm_int4.cu"
#include "ops/cuda/int4_layout.h"
#include "ops/random_layers.h"

namespace narrow::ops::cuda {
namespace {

struct Weights {
  PackedLinear linear;
  Tensor values;  // f32 [out, in]
  Int4Layout layout;

  Weights(const char* format, int64_t out, int64_t in, int64_t group)
      : linear(layer(format, out, in, group, /*bias=*/false)),
        values(dequantize(linear).to(DType::f32)) {
    ThreadPool pool(1);
    layout = make_int4_layout(linear, pool);
  }
  Int4Weights on_device() const {
    return {reinterpret_cast<const uint8_t*>(layout.chunks.data()), layout.factors.data(),
            layout.group, layout.offsets};
  }
};

using Multiply = void (*)(const Int4Weights&, int64_t, int64_t, const __nv_bfloat16*, int64_t,
                          Output, cudaStream_t);
template <int kTokens, int kBlocks>
void split(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
           int64_t rows, Output y, cudaStream_t stream) {
  split_int4(kTokens, kBlocks, weights, out, in, x, rows, y, stream);
}

// What y becomes, checked against the formula.
class Products {
 public:
  explicit Products(const Weights& weights) : weights_(weights) {
    const int64_t out = weights.linear.out, in = weights.linear.in;
    std::normal_distribution<float> normal(0, 1);
    x_.resize(static_cast<size_t>(kRows * in));
    for (bf16& value : x_) value = to_bf16(normal(random_numbers));
    for (int64_t n = 0; n < out; ++n) bias_.push_back(normal(random_numbers));
    const auto of = weights.values.matrix<float>();
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t n = 0; n < out; ++n) {
        double sum = bias_[static_cast<size_t>(n)];
        for (int64_t k = 0; k < in; ++k)
          sum += double{to_float(x_[static_cast<size_t>(row * in + k)])} * of(n, k);
        expected_.push_back(sum);
      }
  }

  // Returns the rows in float32.
  std::vector<float> in_float32(Multiply multiply, int64_t rows) const {
    std::vector<float> y(static_cast<size_t>(rows * out()), NAN);
    Output to;
    to.data = y.data();
    to.f32 = true;
    to.stride = out();
    to.bias = bias_.data();
    multiply(weights_.on_device(), out(), in(), x_.data(), rows, to, nullptr);
    expect(
        rows, out(), 1e-5, [&](size_t i) { return expected_[i]; }, [&](size_t i) { return y[i]; });
    return y;
  }

  void in_bf16(Multiply multiply, int64_t rows, bool adds) const {
    std::vector<bf16> y(static_cast<size_t>(rows * out()), to_bf16(adds ? 1.5f : NAN));
    Output to;
    to.data = y.data();
    to.stride = out();
    to.bias = bias_.data();
    to.adds = adds;
    multiply(weights_.on_device(), out(), in(), x_.data(), rows, to, nullptr);
    expect(
        rows, out(), 0.012, [&](size_t i) { return expected_[i] + (adds ? 1.5 : 0); },
        [&](size_t i) { return to_float(y[i]); });
  }

  // The activated halves.
  void activated(int64_t rows) const {
    const int64_t half = out() / 2;
    std::vector<bf16> y(static_cast<size_t>(rows * half), to_bf16(NAN));
    Output to;
    to.data = y.data();
    to.stride = half;
    to.bias = bias_.data();
    gated_int4(weights_.on_device(), half, in(), x_.data(), rows, to, nullptr);
    const auto formula = [&](size_t i) {
      const size_t row = i / static_cast<size_t>(half), n = i % static_cast<size_t>(half);
      const double gate = expected_[row * static_cast<size_t>(out()) + n];
      return gate / (1 + std::exp(-gate)) *
             expected_[row * static_cast<size_t>(out()) + static_cast<size_t>(half) + n];
    };
    expect(rows, half, 0.012, formula, [&](size_t i) { return to_float(y[i]); });
  }

 private:
  static constexpr int64_t kRows = 300;

  int64_t out() const { return weights_.linear.out; }
  int64_t in() const { return weights_.linear.in; }

  // tolerance: in units of a row's largest.
  template <class Expected, class Got>
  static void expect(int64_t rows, int64_t columns, double tolerance, Expected expected, Got got) {
    for (int64_t row = 0; row < rows; ++row) {
      double size = 0, worst = 0;
      for (int64_t n = 0; n < columns; ++n) {
        const auto i = static_cast<size_t>(row * columns + n);
        size = std::max(size, std::fabs(expected(i)));
        const double difference = std::fabs(got(i) - expected(i));
        worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
      }
      ASSERT_LE(worst, tolerance * size)
          << "row " << row << " of " << rows << ", " << columns << " outputs";
    }
  }

  const Weights& weights_;
  std::vector<bf16> x_;
  std::vector<float> bias_;
  std::vector<double> expected_;
};

void check(const Weights& weights) {
  const Products products(weights);
  emulation::processors = 3;  // so blocks have several tiles, one behind the other
  const std::pair<Multiply, int64_t> tiles[] = {
      {skinny_int4, 1},   {skinny_int4, 7},   {skinny_int4, 8},   {split<32, 1>, 40},
      {split<64, 1>, 50}, {split<32, 2>, 40}, {split<64, 2>, 50}, {run<4, 32>, 100},
      {run<4, 64>, 200},  {run<2, 64>, 200},  {run<2, 128>, 130}, {run<2, 160>, 170}};
  const std::vector<float> most = products.in_float32(run<2, 64>, 200);
  for (const auto& [multiply, rows] : tiles) {
    const std::vector<float> y = products.in_float32(multiply, rows);
    EXPECT_TRUE(std::equal(y.begin(), y.end(), most.begin())) << rows << " rows";
    products.in_bf16(multiply, rows, /*adds=*/false);
    products.in_bf16(multiply, rows, /*adds=*/true);
  }
}

TEST(Int4Products, OfAllTilesAreTheFormulaAndHaveTheSameBits) {
  check({"w4a16-int", 200, 1280, 128});
  check({"w4a16-int", 72, 256, 32});   // fewer chunks of inputs than parts
  check({"w4a16-int", 99, 200, 200});  // a scale an output, and nothing whole
  check({"w4a16-awq", 136, 1152, 128});
  check({"w4a16-awq", 64, 640, 64});
}

TEST(Int4Products, WithTheActivationAreTheFormula) {
  emulation::processors = 3;
  for (const char* format : {"w4a16-int", "w4a16-awq"}) {
    const Weights weights(format, 256, 640, 128);
    const Products products(weights);
    products.activated(100);
    products.activated(150);  // a tile of 160 rows
    emulation::processors = 4;
    products.activated(300);  // two of them
    emulation::processors = 3;
  }
}

}  // namespace
}  // namespace narrow::ops::cuda
