// Every operation of `cpu` against `reference` over generated shapes, and the contract that a row's
// result does not depend on its neighbours or on the number of threads, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "ops/activation.h"
#include "ops/backend.h"
#include "ops/random_layers.h"

namespace narrow::ops {
namespace {

std::vector<float> normal(int64_t count, float spread = 1) {
  std::normal_distribution<float> distribution(0, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random_numbers);
  return values;
}

Tensor tensor_of(const std::vector<float>& values, std::vector<int64_t> shape, DType dtype) {
  Tensor tensor(DType::f32, std::move(shape));
  std::copy(values.begin(), values.end(), tensor.as<float>().begin());
  return tensor.to(dtype);
}

PackedLinear dense(int64_t out, int64_t in, DType dtype, bool bias) {
  PackedLinear linear;
  linear.out = out;
  linear.in = in;
  linear.weight = tensor_of(normal(out * in, 0.05f), {out, in}, dtype);
  if (bias) linear.bias = tensor_of(normal(out), {out}, DType::bf16);
  return linear;
}

// bits: 0 for the format's own.
PackedLinear quantized(const std::string& format, int64_t out, int64_t in, int64_t group, int bits,
                       bool per_channel) {
  PackedLinear linear;
  linear.scheme = scheme_of_format(format, group);
  linear.out = out;
  linear.in = in;
  QuantArgs& args = *linear.scheme.weights;
  if (bits > 0) args.bits = bits;
  if (per_channel) args.strategy = QuantArgs::Strategy::channel;
  draw_weights(linear, 0.01f);
  return linear;
}

std::vector<float> multiply(Backend& backend, const PackedLinear& linear,
                            const std::vector<float>& x, int64_t rows) {
  const auto layer = backend.prepare(std::span(&linear, 1));
  std::vector<float> input = x, output(static_cast<size_t>(rows * linear.out), -1);
  backend.linear(*layer, {input.data(), DType::f32, rows, linear.in},
                 {output.data(), DType::f32, rows, linear.out});
  return output;
}

struct Case {
  std::string name;
  PackedLinear linear;
  bool bf16_input;  // cpu rounds the input to bf16
};

std::vector<Case> cases(int64_t out, int64_t in) {
  std::vector<Case> list;
  list.push_back({"bf16", dense(out, in, DType::bf16, true), true});
  list.push_back({"f32", dense(out, in, DType::f32, false), false});
  list.push_back({"f16", dense(out, in, DType::f16, false), false});
  list.push_back({"w8a8-fp", quantized("w8a8-fp", out, in, 0 + in, 0, false), false});
  list.push_back({"w8a8-int", quantized("w8a8-int", out, in, in, 0, false), false});
  list.push_back({"int4 channel", quantized("w4a16-int", out, in, in, 0, true), true});
  list.push_back({"int4 channel asymmetric", quantized("w4a16-awq", out, in, in, 0, true), true});
  for (int64_t group : {32, 64, 128}) {
    if (in % group != 0) continue;
    list.push_back({"int4 group", quantized("w4a16-int", out, in, group, 0, false), true});
    list.push_back({"int4 zero points", quantized("w4a16-awq", out, in, group, 0, false), true});
    list.push_back({"int2 group", quantized("w4a16-int", out, in, group, 2, false), true});
    list.push_back({"int3 group", quantized("w4a16-int", out, in, group, 3, false), true});
    list.push_back({"int8 group", quantized("w4a16-int", out, in, group, 8, false), true});
  }
  if (in % 32 == 0) {
    PackedLinear shuffled = quantized("w4a16-int", out, in, 32, 0, false);
    shuffled.group_index = Tensor(DType::i32, {in});
    for (int64_t k = 0; k < in; ++k)
      shuffled.group_index.as<int32_t>()[static_cast<size_t>(k)] =
          static_cast<int32_t>((k * 7) % (in / 32));
    list.push_back({"int4 act-order", shuffled, true});
  }
  return list;
}

class Shapes : public testing::TestWithParam<std::array<int64_t, 3>> {};

// Tolerance: a sum of `in` products has the relative rounding error of its length, measured against
// the sum of magnitudes; a bf16 input adds 2^-9 of each product, bf16(code · scale) in the
// reference another 2^-9. Integer products are exact.
TEST_P(Shapes, LinearAgreesWithReference) {
  const auto [rows, in, out] = GetParam();
  const auto reference = make_backend("reference"), cpu = make_backend("cpu", 2);
  const std::vector<float> x = normal(rows * in);
  for (const Case& c : cases(out, in)) {
    const auto expected = multiply(*reference, c.linear, x, rows);
    const auto got = multiply(*cpu, c.linear, x, rows);
    const Tensor w = dequantize(c.linear).to(DType::f32);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < out; ++n) {
        double magnitude = 0;
        for (int64_t k = 0; k < in; ++k)
          magnitude += std::fabs(x[static_cast<size_t>(r * in + k)] *
                                 w.as<float>()[static_cast<size_t>(n * in + k)]);
        const double relative = c.name == "w8a8-int" ? 1e-6
                                : c.bf16_input       ? 0x1p-8
                                                     : 1e-6 * std::sqrt(static_cast<double>(in));
        const auto at = static_cast<size_t>(r * out + n);
        ASSERT_NEAR(got[at], expected[at], relative * magnitude + 1e-5)
            << c.name << " row " << r << " output " << n;
        if (c.name == "w8a8-int") {
          ASSERT_EQ(got[at], expected[at]) << "integer sums are exact";
        }
      }
    }
  }
}

TEST_P(Shapes, RowsDoNotDependOnEachOther) {
  const auto [rows, in, out] = GetParam();
  const auto one = make_backend("cpu", 1), two = make_backend("cpu", 2);
  const std::vector<float> x = normal(rows * in);
  for (const Case& c : cases(out, in)) {
    const auto together = multiply(*two, c.linear, x, rows);
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float> row(x.begin() + r * in, x.begin() + (r + 1) * in);
      const auto alone = multiply(*one, c.linear, row, 1);
      ASSERT_EQ(std::memcmp(alone.data(), together.data() + r * out, alone.size() * sizeof(float)),
                0)
          << c.name << " row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Generated, Shapes,
    testing::Values(std::array<int64_t, 3>{0, 32, 16}, std::array<int64_t, 3>{1, 1, 1},
                    std::array<int64_t, 3>{1, 128, 33}, std::array<int64_t, 3>{2, 31, 15},
                    std::array<int64_t, 3>{3, 172, 64}, std::array<int64_t, 3>{4, 96, 17},
                    std::array<int64_t, 3>{5, 64, 16}, std::array<int64_t, 3>{6, 256, 48},
                    std::array<int64_t, 3>{7, 257, 31}, std::array<int64_t, 3>{13, 576, 100},
                    std::array<int64_t, 3>{19, 640, 16}));

TEST(Linear, OddVocabulary) {
  const auto reference = make_backend("reference"), cpu = make_backend("cpu", 2);
  const PackedLinear head = dense(8193, 64, DType::bf16, false);
  std::vector<float> x = normal(64);
  for (float& value : x) value = round_bf16(value);
  const auto expected = multiply(*reference, head, x, 1), got = multiply(*cpu, head, x, 1);
  for (size_t n = 0; n < expected.size(); ++n) ASSERT_NEAR(got[n], expected[n], 1e-5) << n;
}

TEST(Linear, PartsStandSideBySide) {
  const auto cpu = make_backend("cpu", 2);
  const std::vector<PackedLinear> parts = {dense(17, 64, DType::bf16, true),
                                           quantized("w4a16-int", 33, 64, 32, 0, false),
                                           dense(16, 64, DType::f32, false)};
  const std::vector<float> x = normal(3 * 64);
  std::vector<float> input = x, all(3 * 66);
  const auto layer = cpu->prepare(parts);
  cpu->linear(*layer, {input.data(), DType::f32, 3, 64}, {all.data(), DType::f32, 3, 66});
  int64_t first = 0;
  for (const PackedLinear& part : parts) {
    const auto alone = multiply(*cpu, part, x, 3);
    for (int64_t r = 0; r < 3; ++r)
      for (int64_t n = 0; n < part.out; ++n)
        ASSERT_EQ(alone[static_cast<size_t>(r * part.out + n)],
                  all[static_cast<size_t>(r * 66 + first + n)]);
    first += part.out;
  }
}

TEST(Linear, ZeroRowsGiveZerosAndNoNan) {
  for (const char* name : {"reference", "cpu"}) {
    const auto backend = make_backend(name, 1);
    for (const char* format : {"w8a8-fp", "w8a8-int"}) {
      const auto y = multiply(*backend, quantized(format, 20, 64, 64, 0, false),
                              std::vector<float>(64, 0.0f), 1);
      for (float value : y) ASSERT_EQ(value, 0.0f) << name << " " << format;
    }
  }
}

TEST(Linear, RefusesWhatDoesNotFit) {
  const auto cpu = make_backend("cpu", 1);
  const PackedLinear linear = dense(16, 32, DType::bf16, false);
  const auto layer = cpu->prepare(std::span(&linear, 1));
  std::vector<float> x(64), y(64);
  EXPECT_THROW(cpu->linear(*layer, {x.data(), DType::f32, 1, 31}, {y.data(), DType::f32, 1, 16}),
               Error);
  PackedLinear unknown = linear;
  unknown.scheme = scheme_of_format("w8a8-int");
  unknown.scheme.inputs->dynamic = false;
  EXPECT_THROW(cpu->prepare(std::span(&unknown, 1)), Error);
  EXPECT_THROW(make_backend("nonsense"), Error);
}

TEST(Activation, CodesFollowTheRule) {
  const std::vector<float> x = {1.275f, -1.275f, 0.005f, 0.015f, -0.004f};
  std::vector<int8_t> codes(x.size());
  const float scale = quantize_int8(x, codes.data());
  EXPECT_FLOAT_EQ(scale, 1.275f / 127.5f);
  EXPECT_EQ(codes[0], 127);  // 127.5 rounds to 128 and is clamped
  EXPECT_EQ(codes[1], -128);
}

// Elementwise operations: a few units in the last place of float.
TEST(Elementwise, AgreesWithReference) {
  const auto reference = make_backend("reference"), cpu = make_backend("cpu", 2);
  for (int64_t cols : {1, 7, 8, 9, 63, 576, 1537}) {
    const int64_t rows = 11;
    const auto x = normal(rows * cols, 3), gate_up = normal(rows * 2 * cols, 5);
    const Tensor gamma = tensor_of(normal(cols), {cols}, DType::bf16);
    std::vector<float> results[2][3];
    int b = 0;
    for (Backend* backend : {reference.get(), cpu.get()}) {
      auto input = x, gates = gate_up;
      std::vector<float> normed(x.size()), activated(x.size()), residual = x;
      const auto prepared = backend->prepare(gamma);
      const Matrix in{input.data(), DType::f32, rows, cols};
      backend->rms_norm(in, prepared, 1e-5f, {normed.data(), DType::f32, rows, cols});
      backend->silu_mul({gates.data(), DType::f32, rows, 2 * cols},
                        {activated.data(), DType::f32, rows, cols});
      backend->add({residual.data(), DType::f32, rows, cols}, in);
      results[b][0] = normed;
      results[b][1] = activated;
      results[b][2] = residual;
      ++b;
    }
    for (int part = 0; part < 3; ++part)
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(results[1][part][i], results[0][part][i],
                    2e-6 * std::fabs(results[0][part][i]) + 1e-6)
            << "operation " << part << " columns " << cols << " element " << i;
  }
}

// Attention over a paged cache, blocks out of order: cpu against reference within what a bf16 cache
// costs, and bitwise the same whether a prompt comes in one step or in pieces.
class Attention : public testing::TestWithParam<std::array<int64_t, 4>> {};

std::vector<float> attend(Backend& backend, const AttentionShape& shape, int64_t tokens,
                          const std::vector<int64_t>& pieces, const std::vector<float>& qkv) {
  const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  const int64_t blocks = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  const KvShape kv_shape{blocks + 1, shape.kv_heads, shape.head_dim};
  const auto kv = backend.allocate(kv_shape.elements() * size_of(backend.kv_dtype()));
  const int64_t half = shape.head_dim / 2;
  Tensor cosine(DType::f32, {tokens * half}), sine(DType::f32, {tokens * half});
  for (int64_t i = 0; i < tokens * half; ++i) {
    cosine.as<float>()[static_cast<size_t>(i)] = std::cos(0.1f * static_cast<float>(i));
    sine.as<float>()[static_cast<size_t>(i)] = std::sin(0.1f * static_cast<float>(i));
  }
  const auto c = backend.prepare(cosine), s = backend.prepare(sine);
  std::vector<float> out(static_cast<size_t>(tokens * shape.heads * shape.head_dim));
  int64_t first = 0;
  for (int64_t rows : pieces) {
    Batch batch;
    for (int64_t i = 0; i < rows; ++i) {
      batch.tokens.push_back(0);
      batch.positions.push_back(static_cast<int32_t>(first + i));
    }
    Batch::Sequence sequence;
    sequence.rows = rows;
    sequence.context = first + rows;
    // From the last block down: the order of blocks in memory must not matter.
    for (int64_t b = 0; b * kKvBlockTokens < sequence.context; ++b)
      sequence.blocks.push_back(static_cast<int32_t>(blocks - b));
    batch.sequences.push_back(sequence);
    const auto plan = backend.plan(batch);
    std::vector<float> part(qkv.begin() + first * width, qkv.begin() + (first + rows) * width);
    const Matrix input{part.data(), DType::f32, rows, width};
    backend.rope_and_store(*plan, shape, c, s, input, kv);
    backend.attention(*plan, shape, input, kv,
                      {out.data() + first * shape.heads * shape.head_dim, DType::f32, rows,
                       shape.heads * shape.head_dim});
    first += rows;
  }
  return out;
}

TEST_P(Attention, AgreesAndDoesNotDependOnPieces) {
  const auto [heads, kv_heads, head_dim, tokens] = GetParam();
  const AttentionShape shape{heads, kv_heads, head_dim,
                             1 / std::sqrt(static_cast<float>(head_dim))};
  const auto qkv = normal(tokens * (heads + 2 * kv_heads) * head_dim);
  const auto reference = make_backend("reference"), cpu = make_backend("cpu", 2);
  const auto expected = attend(*reference, shape, tokens, {tokens}, qkv);
  const auto got = attend(*cpu, shape, tokens, {tokens}, qkv);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 0x1p-8 * 6) << "element " << i;
  std::vector<int64_t> pieces;
  for (int64_t left = tokens, size = 1; left > 0; left -= pieces.back(), size += 5)
    pieces.push_back(std::min(left, size));
  const auto in_pieces = attend(*cpu, shape, tokens, pieces, qkv);
  EXPECT_EQ(std::memcmp(got.data(), in_pieces.data(), got.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Generated, Attention,
    testing::Values(std::array<int64_t, 4>{1, 1, 8, 1}, std::array<int64_t, 4>{8, 4, 8, 17},
                    std::array<int64_t, 4>{9, 3, 64, 33}, std::array<int64_t, 4>{14, 2, 64, 16},
                    std::array<int64_t, 4>{4, 1, 128, 50}, std::array<int64_t, 4>{2, 2, 96, 15}));

TEST(CompareLogits, GivesTheDivergenceOfRows) {
  const float half = std::log(0.5f), quarter = std::log(0.25f), never = -INFINITY;
  // Rows of p and q: the same up to a constant; a token that p never has; one that q never has.
  std::vector<float> p = {half, quarter, quarter, half, half, never, half, half, never};
  std::vector<float> q = {half + 7, quarter + 7, quarter + 7, quarter, half,
                          quarter,  half,        never,       half};
  const std::vector<int32_t> targets = {1, 0, 0};
  for (const char* name : {"reference", "cpu"}) {
    const auto backend = make_backend(name, 2);
    const Matrix of_p{p.data(), DType::f32, 3, 3}, of_q{q.data(), DType::f32, 3, 3};
    const auto got = backend->compare_logits(of_p, of_q, targets);
    ASSERT_EQ(got.size(), 3u);
    EXPECT_NEAR(got[0].kl, 0, 1e-6);
    EXPECT_NEAR(got[0].nll_p, std::log(4), 1e-6);
    EXPECT_NEAR(got[0].nll_q, std::log(4), 1e-6);
    EXPECT_TRUE(got[0].same_argmax);
    EXPECT_NEAR(got[1].kl, 0.5 * std::log(0.5 / 0.25) + 0.5 * std::log(0.5 / 0.5), 1e-6);
    EXPECT_NEAR(got[1].nll_q, std::log(4), 1e-6);
    EXPECT_FALSE(got[1].same_argmax);
    EXPECT_EQ(got[2].kl, INFINITY);
    EXPECT_THROW(backend->compare_logits(of_p, of_q, std::span(targets).first(2)), Error);
    EXPECT_THROW(backend->compare_logits(of_p, of_q, std::vector<int32_t>{0, 1, 3}), Error);
    EXPECT_THROW(backend->compare_logits(of_p, {q.data(), DType::f32, 3, 2}, targets), Error);
  }
}

// A row's token may be the one that was chosen at a row of the logits before.
TEST(Embed, TakesTokensThatWereChosenBefore) {
  for (const char* name : {"reference", "cpu"}) {
    const auto backend = make_backend(name, 1);
    constexpr int64_t kVocabulary = 9, kCols = 4;
    const std::vector<float> values = normal(kVocabulary * kCols);
    const DeviceBuffer table =
        backend->prepare(tensor_of(values, {kVocabulary, kCols}, DType::f32));
    const DeviceBuffer chosen = backend->allocate(3 * size_of(DType::i32));
    std::vector<float> logits(3 * kVocabulary, 0);
    logits[7] = logits[kVocabulary + 2] = logits[2 * kVocabulary + 4] = 1;
    const auto summaries =
        backend->summarize_logits({logits.data(), DType::f32, 3, kVocabulary},
                                  std::vector<LogitQuery>{{}, {.target = 2}, {}}, chosen);
    ASSERT_EQ(summaries->wait().size(), 3u);
    EXPECT_EQ(summaries->wait()[0].argmax, 7);
    EXPECT_EQ(summaries->wait()[1].target, 1);

    Batch batch = single_sequence({0, 5, 0, 8});
    batch.token_sources = {2, -1, 0, -1};
    std::vector<float> out(4 * kCols);
    backend->embed(*backend->plan(batch), table, chosen, {out.data(), DType::f32, 4, kCols});
    const int64_t expected[] = {4, 5, 7, 8};
    for (int64_t r = 0; r < 4; ++r)
      EXPECT_EQ(
          std::memcmp(&out[static_cast<size_t>(r * kCols)],
                      &values[static_cast<size_t>(expected[r] * kCols)], kCols * sizeof(float)),
          0)
          << name << ", row " << r;
    batch.token_sources[0] = 3;
    EXPECT_THROW(
        backend->embed(*backend->plan(batch), table, chosen, {out.data(), DType::f32, 4, kCols}),
        Error);
    batch.token_sources.pop_back();
    EXPECT_THROW(backend->plan(batch), Error);
    EXPECT_THROW(
        backend->summarize_logits({logits.data(), DType::f32, 3, kVocabulary},
                                  std::vector<LogitQuery>{{}, {.target = kVocabulary}, {}}, chosen),
        Error);
  }
}

}  // namespace
}  // namespace narrow::ops
