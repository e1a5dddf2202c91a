// The kernel of whole layers (row_layers.cuh) on the host, its blocks at a time: logits of one row
// against the formula, of several steps one behind the other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "ops/activation.h"
#include "ops/cuda/row_layers.h"
#include "ops/cuda/tensor_map.h"
#include "tensor/dtype.h"

namespace narrow::ops::cuda {

int processors() { return 3; }

namespace {

using Row = std::vector<float>;

constexpr int kPageTokens = 16;

struct Shape {
  int hidden, heads, kv_heads, head_dim, intermediate, vocabulary, layers;
  int width(RowProduct product) const {  // outputs
    return product == kQkv      ? (heads + 2 * kv_heads) * head_dim
           : product == kGateUp ? 2 * intermediate
                                : hidden;
  }
  int inputs(RowProduct product) const {
    return product == kO ? heads * head_dim : product == kDown ? intermediate : hidden;
  }
};

float rounded(float value) { return to_float(to_bf16(value)); }

// Weights as rows of codes, or of bf16, and what they stand for.
struct Weights {
  std::vector<uint8_t> bytes;
  std::vector<float> numbers, scale, bias;  // numbers: of codes, without the scale
};

// A decoder of random weights.
class Decoder {
 public:
  Decoder(Codes codes, const Shape& shape, int visible)
      : codes_(codes), shape_(shape), visible_(visible) {
    for (int layer = 0; layer < shape.layers; ++layer) {
      for (int p = 0; p < kRowProducts; ++p) {
        const auto product = static_cast<RowProduct>(p);
        weights_.push_back(draw(codes, shape.width(product), shape.inputs(product)));
      }
      for (int i = 0; i < 2; ++i) norms_.push_back(draw_norm());
      cache_.emplace_back(cache_numbers());
      for (bf16& number : cache_.back()) number = to_bf16(normal());
    }
    head_ = draw(Codes::none, shape.vocabulary, shape.hidden);
    norms_.push_back(draw_norm());
    embedded_.resize(static_cast<size_t>(shape.hidden));
    for (bf16& number : embedded_) number = to_bf16(normal());
    for (int i = 0; i < visible * shape.head_dim / 2; ++i) {
      cosine_.push_back(std::cos(0.1f * static_cast<float>(i)));
      sine_.push_back(std::sin(0.1f * static_cast<float>(i)));
    }
    table_of_blocks_.resize(static_cast<size_t>(blocks()));
    std::iota(table_of_blocks_.rbegin(), table_of_blocks_.rend(), 0);
    describe();
  }

  // Of a step by the kernel.
  Row logits() {
    std::fill(logits_.begin(), logits_.end(), std::nanf(""));
    if (codes_ == Codes::none) row_layers_bf16(work_, nullptr);
    if (codes_ == Codes::int8) row_layers_int8(work_, nullptr);
    if (codes_ == Codes::fp8) row_layers_fp8(work_, nullptr);
    return logits_;
  }

  // By the formula, rounded where the kernel's numbers are.
  Row expected() const {
    Row residual;
    for (const bf16 number : embedded_) residual.push_back(to_float(number));
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const auto add = [&](const Row& more) {
        for (size_t i = 0; i < residual.size(); ++i) residual[i] = rounded(residual[i] + more[i]);
      };
      const Row qkv = product(normed(residual, layer, 0), layer, kQkv);
      add(product(attended(qkv, layer), layer, kO));
      const Row gate_up = product(normed(residual, layer, 1), layer, kGateUp);
      Row activated;
      for (int i = 0; i < shape_.intermediate; ++i) {
        const float gate = gate_up[static_cast<size_t>(i)];
        const float up = gate_up[static_cast<size_t>(shape_.intermediate + i)];
        activated.push_back(rounded(gate / (1 + std::exp(-gate)) * up));
      }
      add(product(activated, layer, kDown));
    }
    return multiply(normed(residual, shape_.layers, 0), head_, Codes::none, /*rounds=*/false);
  }

 private:
  float normal() { return distribution_(engine_); }
  int blocks() const { return (visible_ + kPageTokens - 1) / kPageTokens; }
  size_t cache_numbers() const {
    return static_cast<size_t>(blocks() * 2 * shape_.kv_heads * kPageTokens * shape_.head_dim);
  }

  Weights draw(Codes codes, int out, int in) {
    Weights weights;
    for (int n = 0; n < out; ++n) {
      weights.scale.push_back(codes == Codes::none ? 1
                                                   : (1 + std::fabs(normal())) * 0.03f /
                                                         std::sqrt(static_cast<float>(in)));
      weights.bias.push_back(0.1f * normal());
      for (int k = 0; k < in; ++k) {
        if (codes == Codes::none) {
          const bf16 number = to_bf16(normal() / std::sqrt(static_cast<float>(in)));
          append(weights.bytes, number);
          weights.numbers.push_back(to_float(number));
        } else if (codes == Codes::int8) {
          const auto code =
              static_cast<int8_t>(std::clamp(std::lround(30 * normal()), -127L, 127L));
          append(weights.bytes, code);
          weights.numbers.push_back(code);
        } else {
          const f8_e4m3 code = to_f8_e4m3(30 * normal());
          append(weights.bytes, code);
          weights.numbers.push_back(to_float(code));
        }
      }
    }
    return weights;
  }
  template <class T>
  static void append(std::vector<uint8_t>& bytes, const T& number) {
    const auto* const from = reinterpret_cast<const uint8_t*>(&number);
    bytes.insert(bytes.end(), from, from + sizeof number);
  }
  Row draw_norm() {
    Row weights;
    for (int i = 0; i < shape_.hidden; ++i) weights.push_back(1 + 0.2f * normal());
    return weights;
  }

  Row normed(const Row& x, int layer, int which) const {
    double squares = 0;
    for (const float number : x) squares += double{number} * number;
    const double factor = 1 / std::sqrt(squares / static_cast<double>(x.size()) + work_.epsilon);
    const Row& gamma = norms_[static_cast<size_t>(2 * layer + which)];
    Row result;
    for (size_t i = 0; i < x.size(); ++i)
      result.push_back(rounded(static_cast<float>(x[i] * factor * gamma[i])));
    return result;
  }

  Row product(const Row& x, int layer, RowProduct product) const {
    return multiply(x, weights_[static_cast<size_t>(layer * kRowProducts + product)], codes_, true);
  }
  static Row multiply(Row x, const Weights& weights, Codes codes, bool rounds) {
    float scale = 1;
    if (codes == Codes::int8) {
      std::vector<int8_t> of_x(x.size());
      scale = quantize_int8(x, of_x.data());
      std::copy(of_x.begin(), of_x.end(), x.begin());
    } else if (codes == Codes::fp8) {
      std::vector<f8_e4m3> of_x(x.size());
      scale = quantize_fp8(x, of_x.data());
      std::transform(of_x.begin(), of_x.end(), x.begin(),
                     [](f8_e4m3 code) { return to_float(code); });
    }
    Row result;
    for (size_t n = 0; n < weights.scale.size(); ++n) {
      double sum = 0;
      for (size_t k = 0; k < x.size(); ++k) sum += double{x[k]} * weights.numbers[n * x.size() + k];
      const auto value = static_cast<float>(sum * scale * weights.scale[n] + weights.bias[n]);
      result.push_back(rounds ? rounded(value) : value);
    }
    return result;
  }

  // A cached key (kind 0) or value of a token.
  const bf16* cached(int layer, int kind, int kv_head, int token) const {
    const int block = table_of_blocks_[static_cast<size_t>(token / kPageTokens)];
    return cache_[static_cast<size_t>(layer)].data() +
           (((block * 2 + kind) * shape_.kv_heads + kv_head) * kPageTokens + token % kPageTokens) *
               shape_.head_dim;
  }
  Row rotated(const Row& qkv, int head) const {
    const int dim = shape_.head_dim, half = dim / 2;
    Row result(static_cast<size_t>(dim));
    for (int d = 0; d < half; ++d) {
      const auto at = static_cast<size_t>((visible_ - 1) * half + d);
      const float a = qkv[static_cast<size_t>(head * dim + d)];
      const float b = qkv[static_cast<size_t>(head * dim + d + half)];
      result[static_cast<size_t>(d)] = rounded(a * cosine_[at] - b * sine_[at]);
      result[static_cast<size_t>(d + half)] = rounded(b * cosine_[at] + a * sine_[at]);
    }
    return result;
  }
  Row attended(const Row& qkv, int layer) const {
    const int dim = shape_.head_dim, queries = shape_.heads / shape_.kv_heads;
    Row result;
    for (int head = 0; head < shape_.heads; ++head) {
      const int kv_head = head / queries;
      const Row query = rotated(qkv, head), key = rotated(qkv, shape_.heads + kv_head);
      std::vector<double> weights;
      double all = 0;
      const auto number = [&](int kind, int token, int d) {
        if (token < visible_ - 1) return to_float(cached(layer, kind, kv_head, token)[d]);
        return kind == 0
                   ? key[static_cast<size_t>(d)]
                   : qkv[static_cast<size_t>((shape_.heads + shape_.kv_heads + kv_head) * dim + d)];
      };
      for (int token = 0; token < visible_; ++token) {
        double score = 0;
        for (int d = 0; d < dim; ++d)
          score += double{query[static_cast<size_t>(d)]} * number(0, token, d);
        weights.push_back(std::exp(score * work_.attention.scale));
        all += weights.back();
      }
      for (int d = 0; d < dim; ++d) {
        double sum = 0;
        for (int token = 0; token < visible_; ++token)
          sum += weights[static_cast<size_t>(token)] * number(1, token, d);
        result.push_back(rounded(static_cast<float>(sum / all)));
      }
    }
    return result;
  }

  // As RowDecoder does it, with a ring that is short.
  void describe() {
    const int bytes = codes_ == Codes::none ? 2 : 1;
    const auto steps_of = [](int of_row) { return (of_row + kRowSegment - 1) / kRowSegment; };
    const auto map = [](const Weights& weights, int out, int in, bool of_bf16) {
      return atoms_map(weights.bytes.data(), of_bf16 ? TensorMapType::bf16 : TensorMapType::byte,
                       in, out, int64_t{in} * (of_bf16 ? 2 : 1), 8, kRowSegment / 128);
    };
    work_.layers = shape_.layers, work_.hidden = shape_.hidden;
    work_.intermediate = shape_.intermediate, work_.epsilon = 1e-5f;
    work_.attention.heads = shape_.heads, work_.attention.kv_heads = shape_.kv_heads;
    work_.attention.head_dim = shape_.head_dim, work_.attention.scale = 0.1f;
    work_.blocks = processors();
    work_.stages = 7, work_.under_way = 3, work_.attending = 2;
    work_.head = {shape_.vocabulary / 16, steps_of(2 * shape_.hidden), shape_.hidden};
    work_.x_bytes = std::max(row_attention_bytes(work_.attention), work_.head.steps * kRowSegment);
    for (int p = 0; p < kRowProducts; ++p) {
      const auto product = static_cast<RowProduct>(p);
      const int in = shape_.inputs(product);
      work_.product[p] = {shape_.width(product) / 16, steps_of(in * bytes), in};
      work_.x_bytes = std::max(work_.x_bytes, work_.product[p].steps * kRowSegment);
      if (codes_ != Codes::none) work_.staged_bytes = std::max(work_.staged_bytes, 2 * in);
    }
    for (int layer = 0; layer < shape_.layers; ++layer) {
      RowLayer& of = table_.emplace_back();
      for (int p = 0; p < kRowProducts; ++p) {
        const auto product = static_cast<RowProduct>(p);
        const Weights& weights = weights_[static_cast<size_t>(layer * kRowProducts + p)];
        of.weights[p] =
            map(weights, shape_.width(product), shape_.inputs(product), codes_ == Codes::none);
        of.column_scale[p] = codes_ == Codes::none ? nullptr : weights.scale.data();
        of.bias[p] = weights.bias.data();
      }
      for (int i = 0; i < 2; ++i) of.norm[i] = norms_[static_cast<size_t>(2 * layer + i)].data();
      work_.kv[layer] = cache_[static_cast<size_t>(layer)].data();
    }
    RowLayer& last = table_.emplace_back();
    last.weights[0] = map(head_, shape_.vocabulary, shape_.hidden, true);
    last.bias[0] = head_.bias.data();
    last.norm[0] = norms_.back().data();
    work_.table = table_.data();
    work_.cosine = cosine_.data(), work_.sine = sine_.data();
    position_ = visible_ - 1;
    slot_ = table_of_blocks_.back() * kPageTokens + position_ % kPageTokens;
    work_.batch.positions = &position_, work_.batch.slots = &slot_;
    work_.batch.single_table = &zero_, work_.batch.single_visible = &visible_;
    work_.batch.block_table = table_of_blocks_.data();
    work_.batch.chunks = pieces_of(visible_);
    work_.embedded = reinterpret_cast<const __nv_bfloat16*>(embedded_.data());
    logits_.resize(static_cast<size_t>(shape_.vocabulary));
    work_.logits = logits_.data();
    // Rows that blocks tell each other, empty, in turns; each row a multiple of 64 numbers.
    const int rows[] = {shape_.width(kQkv), shape_.heads * shape_.head_dim, shape_.hidden,
                        shape_.intermediate, shape_.hidden};
    for (const int numbers : rows) work_.turn_numbers += (numbers + 63) / 64 * 64;
    told_.assign(static_cast<size_t>(kRowTurns * work_.turn_numbers + 8), 0xffff);
    auto* at = reinterpret_cast<__nv_bfloat16*>((reinterpret_cast<uintptr_t>(told_.data()) + 15) /
                                                16 * 16);
    __nv_bfloat16** const places[] = {&work_.made[kQkv], &work_.attended, &work_.made[kO],
                                      &work_.made[kGateUp], &work_.made[kDown]};
    for (size_t i = 0; i < std::size(rows); ++i) *places[i] = at, at += (rows[i] + 63) / 64 * 64;
    work_.state = state_;
    work_.tag = &tag_;
    pieces_.assign(
        static_cast<size_t>(shape_.kv_heads * work_.batch.chunks *
                            row_piece_words(shape_.heads / shape_.kv_heads, shape_.head_dim)) +
            1,
        0);
    work_.pieces = pieces_.data() + reinterpret_cast<uintptr_t>(pieces_.data()) / 8 % 2;
  }

  Codes codes_;
  Shape shape_;
  int32_t visible_, position_ = 0, slot_ = 0, zero_ = 0;
  std::mt19937 engine_{11};
  std::normal_distribution<float> distribution_{0, 1};
  std::vector<Weights> weights_;
  std::vector<Row> norms_;
  std::vector<std::vector<bf16>> cache_;
  Weights head_;
  std::vector<bf16> embedded_;
  std::vector<float> cosine_, sine_;
  std::vector<int32_t> table_of_blocks_;
  RowLayers work_;
  std::vector<RowLayer> table_;
  std::vector<uint16_t> told_;
  std::vector<uint64_t> pieces_;
  uint32_t state_[2] = {}, tag_ = 0;
  Row logits_;
};

// In parts of their length.
double distance(const Row& got, const Row& expected) {
  double squares = 0, of_difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    squares += double{expected[i]} * expected[i];
    of_difference += (double{got[i]} - expected[i]) * (double{got[i]} - expected[i]);
  }
  return std::sqrt(of_difference / squares);
}

// most: of their distance from the formula.
void expect_logits(Codes codes, const Shape& shape, int visible, double most) {
  Decoder decoder(codes, shape, visible);
  const Row expected = decoder.expected();
  // Places and tags are other ones in each step, the numbers the same.
  const Row first = decoder.logits();
  EXPECT_LT(distance(first, expected), most);
  EXPECT_EQ(decoder.logits(), first);
  EXPECT_EQ(decoder.logits(), first);
}

// Products of one step and of several, the last of which is not whole, tiles that are shared and
// rounds that are not whole.
constexpr Shape kShape{256, 4, 2, 64, 1280, 80, 2};

TEST(RowLayers, InBf16) { expect_logits(Codes::none, kShape, 150, 0.01); }
// Where attention is rounded another way, some codes are the next ones.
TEST(RowLayers, InInt8) { expect_logits(Codes::int8, kShape, 150, 0.05); }
TEST(RowLayers, InE4m3) { expect_logits(Codes::fp8, kShape, 150, 0.1); }
TEST(RowLayers, OfWideHeads) { expect_logits(Codes::int8, {256, 3, 1, 128, 256, 48, 1}, 70, 0.05); }

// Attention of the first token is its value, so that nothing is rounded another way.
TEST(RowLayers, OfTheFirstToken) {
  expect_logits(Codes::fp8, {128, 2, 1, 64, 256, 48, 1}, 1, 1e-5);
}

}  // namespace
}  // namespace narrow::ops::cuda
