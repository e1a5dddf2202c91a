#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "quantize/blas.h"
#include "quantize/cholesky.h"
#include "quantize/gptq.h"
#include "quantize/pipeline.h"
#include "quantize/recipe.h"
#include "quantize/rounding.h"
#include "quantize/smoothing.h"

namespace narrow::quantize {
namespace {

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/";

std::string first16(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex().substr(0, 16);
}

// Codes and scales of every module against llm-compressor's (tests/goldens/quantization/README.md):
// plain rounding has one right answer.
void compare(const std::string& variant, Scheme scheme, const ObserverOptions& options) {
  const auto model = checkpoint::open(kGoldens + "stories260k");
  const std::string file = kGoldens + "quantization/stories260K-" + variant + ".json.gz";
  const Json golden = parse_json(read_text_maybe_gz(file), file);
  ThreadPool pool(2);
  int64_t modules = 0;
  for (const Json& expected : golden["modules"]) {
    const auto name = expected["module"].get<std::string>();
    SCOPED_TRACE(variant + " " + name);
    const Tensor weight = model->read(name + ".weight").to(DType::bf16).to(DType::f32);
    const PackedLinear linear = round_to_nearest(weight, scheme, options, pool);
    const bool floating = scheme.weights->type == QuantArgs::Type::floating;
    const Tensor codes = floating ? linear.weight : unpack_codes(linear);
    EXPECT_EQ(first16(codes.raw()), expected["codes_sha256"]);
    EXPECT_EQ(first16(linear.scale.raw()), expected["scales_sha256"]);
    ++modules;
  }
  EXPECT_GE(modules, 30);
}

Scheme with_group(const std::string& format, int64_t group) {
  return scheme_of_format(format, group);
}

TEST(RoundToNearest, Fp8) { compare("fp8_dynamic_rtn", scheme_of_format("w8a8-fp"), {}); }
TEST(RoundToNearest, Int8) { compare("w8a8_rtn", scheme_of_format("w8a8-int"), {}); }
TEST(RoundToNearest, Int4) { compare("w4a16_rtn_minmax", with_group("w4a16-int", 32), {}); }
TEST(RoundToNearest, Int4Asymmetric) { compare("w4a16_asym_rtn", with_group("w4a16-awq", 32), {}); }
TEST(RoundToNearest, Int4Channel) {
  Scheme scheme = with_group("w4a16-int", 32);
  scheme.weights->strategy = QuantArgs::Strategy::channel;
  compare("w4a16_channel_rtn", scheme, {});
}

Tensor random_matrix(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Tensor tensor(DType::f32, {rows, cols});
  for (float& value : tensor.as<float>()) value = round_bf16(normal(random));
  return tensor;
}

// Inputs whose channels move together, as those of language models do.
Tensor correlated_inputs(int64_t rows, int64_t cols) {
  Tensor x = random_matrix(rows, cols, 1);
  const auto m = x.matrix<float>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 1; c < cols; ++c) m(r, c) = 0.8f * m(r, c - 1) + 0.4f * m(r, c);
  return x;
}

TEST(RoundToNearest, ValuesAreThoseOfTheCheckpoint) {
  ThreadPool pool(2);
  for (const char* format : {"w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"}) {
    const Tensor weight = correlated_inputs(33, 256).to(DType::bf16).to(DType::f32);
    const Scheme scheme = scheme_of_format(format, 128);
    const Tensor stored = dequantize(round_to_nearest(weight, scheme, {}, pool));
    const Tensor values = nearest_values(weight, scheme, {}, pool);
    EXPECT_TRUE(std::ranges::equal(stored.as<float>(), values.as<float>())) << format;
  }
}

TEST(Blas, ThreadsSideBySideGetTheProductOfOneAlone) {
  constexpr int kSize = 128, kThreads = 8, kTimes = 2000;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> a(kSize * kSize), b(kSize * kSize), alone(kSize * kSize);
  for (float& value : a) value = uniform(random);
  for (float& value : b) value = uniform(random);
  const auto multiply = [&](std::vector<float>& product) {
    blas().sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kSize, kSize, kSize, 1.0f, a.data(),
                 kSize, b.data(), kSize, 0.0f, product.data(), kSize);
  };
  multiply(alone);
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&] {
        std::vector<float> product(alone.size());
        for (int i = 0; i < kTimes; ++i) {
          multiply(product);
          wrong += product != alone;
        }
      });
  }
  EXPECT_EQ(wrong, 0);
}

TEST(InverseFactor, InvertsTheHessian) {
  ThreadPool pool(2);
  for (const int64_t n : {1, 40, 300}) {
    Hessian hessian(n);
    const Tensor x = correlated_inputs(3 * n, n);
    hessian.add(x.as<float>().data(), 3 * n, pool);
    const auto u = inverse_factor(hessian.sum(), n, pool);
    ASSERT_FALSE(u.empty());
    const auto at = [n](int64_t i, int64_t j) { return static_cast<size_t>(i * n + j); };
    std::vector<double> uh(u.size(), 0.0);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < n; ++k)
        for (int64_t j = 0; j < n; ++j)
          uh[at(i, j)] += static_cast<double>(u[at(i, k)]) * hessian.sum()[at(k, j)];
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double product = 0;  // (u h uᵀ)_ij
        for (int64_t k = 0; k < n; ++k) product += uh[at(i, k)] * u[at(j, k)];
        EXPECT_NEAR(product, i == j ? 1 : 0, 1e-3) << n << ": " << i << " " << j;
        EXPECT_TRUE(i <= j || u[at(i, j)] == 0) << n << ": " << i << " " << j;
      }
    }
    EXPECT_EQ(inverse_factor(hessian.sum(), n, *std::make_unique<ThreadPool>(1)), u);
  }
}

TEST(InverseFactor, IsEmptyWithoutOne) {
  ThreadPool pool(2);
  std::vector<float> singular(40 * 40, 1.0f);
  EXPECT_TRUE(inverse_factor(singular, 40, pool).empty());
  // Positive but for the last of several blocks.
  std::vector<float> late(300 * 300, 0.0f);
  for (size_t i = 0; i < 300; ++i) late[i * 300 + i] = i == 0 ? -1.0f : 1.0f;
  EXPECT_TRUE(inverse_factor(late, 300, pool).empty());
}

double output_error_of(const Tensor& weight, const PackedLinear& linear, const Hessian& hessian,
                       ThreadPool& pool) {
  const Tensor rounded = dequantize(linear);
  Tensor error(DType::f32, weight.shape());
  for (size_t i = 0; i < error.as<float>().size(); ++i)
    error.as<float>()[i] = weight.as<float>()[i] - rounded.as<float>()[i];
  return output_error(error, hessian, pool);
}

TEST(Gptq, BeatsRoundingOnTheOutputsAndDoesNotDependOnThreads) {
  constexpr int64_t in = 256, out = 48;
  ThreadPool one(1), two(2);
  Hessian hessian(in), again(in);
  const Tensor x = correlated_inputs(1000, in);
  hessian.add(x.as<float>().data(), 1000, one);
  again.add(x.as<float>().data(), 1000, two);
  EXPECT_EQ(hessian.sum(), again.sum());
  const Tensor weight = random_matrix(out, in, 3);
  const Scheme scheme = with_group("w4a16-int", 64);
  const auto rounded = round_to_nearest(weight, scheme, {}, one);
  for (const bool by_activity : {false, true}) {
    const GptqOptions options{0.01, by_activity, {}};
    const auto a = gptq(weight, hessian, scheme, options, one);
    const auto b = gptq(weight, hessian, scheme, options, two);
    EXPECT_FALSE(a.fell_back);
    EXPECT_EQ(first16(a.linear.weight.raw()), first16(b.linear.weight.raw()));
    EXPECT_LT(output_error_of(weight, a.linear, hessian, one),
              0.5 * output_error_of(weight, rounded, hessian, one));
  }
}

TEST(Gptq, SaysWhenItFallsBack) {
  ThreadPool pool(1);
  Hessian hessian(32);
  std::vector<float> x(32, 1.0f);
  hessian.add(x.data(), 1, pool);
  const auto result =
      gptq(random_matrix(4, 32, 5), hessian, with_group("w4a16-int", 32), {0.0, true, {}}, pool);
  EXPECT_TRUE(result.fell_back);
}

TEST(Report, SaysOfEachKindOfNoteWhereItIsFirst) {
  Report report;
  report.add({"a", 2.0, 0.1, 0, ""});
  report.add({"b", 0.1, 2.3, 0, ""});
  report.add({"c", 2.0, -1, 0, ""});
  report.add({"d", 0.1, -1, 0, "groups of 64"});
  report.add({"e", 0.1, -1, 0, "groups of 64"});
  ASSERT_EQ(report.notes.size(), 2u);
  EXPECT_TRUE(report.notes[0].starts_with("b: its error is larger than the layer itself"));
  EXPECT_EQ(report.notes[1], "d: groups of 64");
  EXPECT_EQ(report.modules.size(), 5u);
}

TEST(Observer, ZeroGroupsStayZero) {
  ThreadPool pool(1);
  const Tensor zeros(DType::f32, {2, 64});
  for (const char* format : {"w4a16-int", "w4a16-awq", "w8a8-int", "w8a8-fp"}) {
    const auto linear = round_to_nearest(zeros, scheme_of_format(format, 32), {}, pool);
    const Tensor back = dequantize(linear);
    for (float value : back.to(DType::f32).as<float>()) EXPECT_EQ(value, 0.0f) << format;
  }
}

TEST(SmoothQuant, MovesScaleByTheFormula) {
  Tensor weight(DType::f32, {2, 2});
  const float values[] = {0.5f, -0.25f, 1.0f, 0.0f};
  std::copy(values, values + 4, weight.as<float>().begin());
  const std::vector<float> range = {8.0f, 2.0f};
  const auto s = smoothquant_scales(range, {&weight}, 0.5);
  EXPECT_NEAR(s[0], std::sqrt(8.0 / 2.0), 1e-6);
  EXPECT_NEAR(s[1], std::sqrt(2.0 / 0.5), 1e-6);
}

TEST(Recipe, BadOnesAreRefusedByField) {
  EXPECT_THROW(load_recipe("no-such-recipe"), Error);
  for (const char* text : {"{name: x, format: w4a16-int}", "{name: x, format: w5, method: gptq}",
                           "{name: x, format: w4a16-int, method: magic}",
                           "{name: x, format: w4a16-int, method: gptq, damping: -1}",
                           "{name: x, format: w4a16-int, method: gptq, group_size: 7}",
                           "{name: x, format: w4a16-int, method: gptq, smoothing: 2}",
                           "{name: x, format: w4a16-int, method: gptq, odd: 1}", "[1]"}) {
    EXPECT_THROW(parse_recipe(parse_yaml(text, "test"), "test"), Error) << text;
  }
  for (const char* name : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq", "w4a16-rtn"}) {
    EXPECT_EQ(load_recipe(name).name, name);
  }
}

}  // namespace
}  // namespace narrow::quantize
