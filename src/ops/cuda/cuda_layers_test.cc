// Layers of the sizes that Llama-3.1 8B, 70B and 405B have, up to 8192 rows.
//
// Weights repeat every kPeriod outputs, inputs every kRowPeriod rows, both primes that no tile is a
// multiple of: so a small product by `reference` has what every one of 870 million outputs should
// be, and whatever lands in another place than its own is seen.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

constexpr const char* kFormats[] = {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"};
constexpr int64_t kPeriod = 509, kRowPeriod = 61;

struct Model {
  const char* name;
  int64_t hidden, heads, intermediate;
  int64_t qkv() const { return (heads + 2 * 8) * 128; }
};
constexpr Model kModels[] = {
    {"8B", 4096, 32, 14336}, {"70B", 8192, 64, 28672}, {"405B", 16384, 128, 53248}};

class CudaLayers : public Cuda {
 protected:
  // How far outputs of `rows` rows are from `table` [kRowPeriod, kPeriod] at most, in units of the
  // largest magnitude of their row.
  double furthest(const DeviceBuffer& y, int64_t rows, int64_t out, DType dtype,
                  const Tensor& table) {
    Tensor got(dtype, {rows, out});
    cuda_->download(got.raw(), y.data.get());
    const auto value_of = [&](int64_t i) {
      const auto place = static_cast<size_t>(i);
      return dtype == DType::bf16 ? to_float(got.as<bf16>()[place]) : got.as<float>()[place];
    };
    const int64_t parts = std::min<int64_t>(rows, 16);
    std::vector<double> worst_of(static_cast<size_t>(parts), 0);
    const auto compare = [&](int64_t part) {
      for (int64_t r = part; r < rows; r += parts) {
        const auto expected = table.matrix<float>().row(r % kRowPeriod);
        float largest = 0, difference = 0;
        for (const float value : expected) largest = std::max(largest, std::fabs(value));
        for (int64_t n = 0; n < out; ++n) {
          const float d =
              std::fabs(value_of(r * out + n) - expected[static_cast<size_t>(n % kPeriod)]);
          if (!(d <= difference)) difference = std::isnan(d) ? INFINITY : d;
        }
        double& worst = worst_of[static_cast<size_t>(part)];
        worst = std::max<double>(worst, difference / largest);
      }
    };
    std::vector<std::thread> threads;
    for (int64_t part = 0; part < parts; ++part) threads.emplace_back(compare, part);
    for (std::thread& thread : threads) thread.join();
    return *std::max_element(worst_of.begin(), worst_of.end());
  }

  void expect_products(const char* format, int64_t out, int64_t in, const std::string& where) {
    // With biases, which expected_product() knows nothing of in e4m3.
    const bool fp8 = std::string_view(format) == "w8a8-fp";
    const PackedLinear prototypes = layer(format, kPeriod, in, 128, !fp8);
    const Tensor few = normal({kRowPeriod, in}, DType::bf16);
    const Tensor table = expected_product(prototypes, few);
    const PackedLinear packed = repeated(prototypes, out);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    // In units of the largest of a row. Tensor cores cut a sum off to 24 bits at every sixteen
    // inputs; whole numbers are rounded once.
    const double of_sums = fp8 && !portable_                        ? e4m3_error(in)
                           : std::string_view(format) == "w8a8-int" ? 1e-6
                                                                    : 2e-5 + in / 16.0 * 0x1p-24;
    for (const int64_t rows : {1, 3, 16, 40, 64, 128, 200, 1024, 8192}) {
      const DeviceBuffer x = device(repeated_rows(few, rows));
      for (const DType dtype : {DType::f32, DType::bf16}) {
        if (dtype == DType::f32 && rows > 200) continue;  // what the head alone writes
        const DeviceBuffer y = cuda_->allocate(rows * out * size_of(dtype));
        cuda_->linear(*linear, matrix(x, rows, in), matrix(y, rows, out, dtype));
        EXPECT_LT(furthest(y, rows, out, dtype, table), of_sums + (dtype == DType::bf16 ? 5e-3 : 0))
            << where << ", " << rows << " rows, " << name_of(dtype);
      }
    }
  }
};

TEST_F(CudaLayers, OfLlamaAgreeWithReference) {
  for (const Model& model : kModels)
    for (const char* format : kFormats) {
      const std::string where = std::string(model.name) + " in " + format;
      expect_products(format, model.qkv(), model.hidden, where + ", qkv");
      expect_products(format, model.hidden, model.heads * 128, where + ", o");
      expect_products(format, 2 * model.intermediate, model.hidden, where + ", gate_up");
      expect_products(format, model.hidden, model.intermediate, where + ", down");
    }
}

// What decoders run, which activates in the product and adds where it writes, against operation by
// operation.
TEST_F(CudaLayers, OfLlamaHaveTheBitsOfTheirParts) {
  for (const auto& [name, hidden, heads, inner] : kModels)
    for (const char* format : kFormats) {
      const PackedLinear parts[] = {repeated(layer(format, kPeriod, hidden, 128, false), inner),
                                    repeated(layer(format, kPeriod, hidden, 128, false), inner)};
      const PackedLinear last = repeated(layer(format, kPeriod, inner, 128, false), hidden);
      const auto gate_up = cuda_->prepare(parts), down = cuda_->prepare(std::span(&last, 1));
      const DeviceBuffer gamma = cuda_->prepare(normal({hidden}, DType::f32));
      const Tensor few = normal({kRowPeriod, hidden}, DType::bf16);
      for (const int64_t rows : {1, 16, 64, 130, 256, 8192})
        EXPECT_TRUE(has_bits_of_parts(*gate_up, *down, gamma, repeated_rows(few, rows)))
            << name << " in " << format << ", " << rows << " rows";
    }
}

}  // namespace
}  // namespace narrow::ops
