#include "ops/cuda/int4_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "ops/cuda/divide.h"

namespace narrow::ops::cuda {
namespace {

constexpr int64_t kWordsOfChunk = kInt4Outs * kInt4Inputs / 8;
constexpr int64_t kWordsOfGroup = kInt4Outs / 2;  // of scales
constexpr int kLargestExponent = 127;             // of bf16

int64_t stored_group(const PackedLinear& linear) {
  const QuantArgs& args = *linear.scheme.weights;
  return args.strategy == QuantArgs::Strategy::group ? args.group_size : linear.in;
}

// Int4Layout::columns, or nothing where the groups are not all of their size.
std::optional<std::vector<int32_t>> columns_by_group(const PackedLinear& linear) {
  std::vector<int32_t> columns;
  if (linear.group_index.empty()) return columns;
  const auto groups = linear.group_index.as<int32_t>();
  const auto group_of = [&](int32_t column) { return groups[static_cast<size_t>(column)]; };
  columns.resize(static_cast<size_t>(linear.in));
  std::iota(columns.begin(), columns.end(), 0);
  std::stable_sort(columns.begin(), columns.end(),
                   [&](int32_t a, int32_t b) { return group_of(a) < group_of(b); });
  const int64_t group = stored_group(linear);
  for (int64_t k = 0; k < linear.in; ++k)
    if (group_of(columns[static_cast<size_t>(k)]) != k / group) return std::nullopt;
  if (std::is_sorted(columns.begin(), columns.end())) columns.clear();
  return columns;
}

// Codes [out, in], eight to a word, with their columns in this order.
Tensor reorder(const PackedLinear& linear, std::span<const int32_t> columns, ThreadPool& pool) {
  const int64_t row_words = linear.in / 8;
  Tensor result(DType::i32, {linear.out, row_words});
  const auto* from = reinterpret_cast<const uint32_t*>(linear.weight.data());
  auto* to = reinterpret_cast<uint32_t*>(result.data());
  pool.parallel_for(linear.out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t k = 0; k < linear.in; ++k) {
        const int64_t column = columns[static_cast<size_t>(k)];
        const uint32_t code = from[row * row_words + column / 8] >> column % 8 * 4 & 15;
        to[row * row_words + k / 8] |= code << k % 8 * 4;
      }
  });
  return result;
}

// A step of sixteen inputs of rows g and g + 8 for the four lanes of a quad (int4.cuh). low, high:
// two words of codes + 8 each, the first input lowest.
void place_step(const uint32_t* low, const uint32_t* high, uint32_t* lanes, int64_t stride) {
  for (int t = 0; t < 4; ++t) {
    const auto pair = [&](uint32_t word) { return word >> (8 * t) & 0xff; };
    const uint32_t a = pair(low[0]), b = pair(high[0]), c = pair(low[1]), d = pair(high[1]);
    const uint32_t first = (a & 15) | (b & 15) << 4 | (c & 15) << 8 | (d & 15) << 12;
    const uint32_t second = a >> 4 | (b >> 4) << 4 | (c >> 4) << 8 | (d >> 4) << 12;
    lanes[t * stride] = first | second << 16;
  }
}

// The exponent of the largest of an output's scales, or nothing where one is no number.
std::optional<int> exponent_of(std::span<const bf16> scales) {
  float largest = 0;
  for (const bf16 scale : scales) {
    const float magnitude = std::fabs(to_float(scale));
    if (!std::isfinite(magnitude)) return std::nullopt;
    largest = std::max(largest, magnitude);
  }
  return largest == 0 ? 0 : std::ilogb(largest);
}

}  // namespace

bool runs_as_int4(const PackedLinear& linear) {
  if (linear.scheme.dense() || linear.scheme.inputs) return false;
  const QuantArgs& args = *linear.scheme.weights;
  if (args.type != QuantArgs::Type::integer || args.bits != 4) return false;
  if (linear.in % 8 != 0) return false;  // rows of x would not be aligned
  if (linear.scale.dtype() != DType::bf16) return false;
  const int64_t size = args.group_size;
  const bool cut = args.strategy == QuantArgs::Strategy::group
                       ? size == 32 || size == 64 || size % 128 == 0
                       : args.strategy == QuantArgs::Strategy::channel;
  return cut && columns_by_group(linear).has_value();
}

Int4Layout make_int4_layout(const PackedLinear& linear, ThreadPool& pool) {
  const int64_t from_group = stored_group(linear),
                from_groups = linear.scale.elements() / linear.out;
  Int4Layout result;
  result.group =
      static_cast<int>(std::min<int64_t>(from_group == linear.in ? 128 : from_group, 128));
  result.offsets = !linear.zero_point.empty();
  result.in_padded = round_up(linear.in, kInt4Inputs);
  result.columns = *columns_by_group(linear);
  const Tensor weight =
      result.columns.empty() ? linear.weight : reorder(linear, result.columns, pool);
  const int64_t tiles = round_up(linear.out, kInt4Outs) / kInt4Outs;
  const int64_t chunks = result.in_padded / kInt4Inputs, groups = kInt4Inputs / result.group;
  const int64_t chunk_words = kWordsOfChunk + groups * kWordsOfGroup * (result.offsets ? 2 : 1);
  result.chunks = Tensor::unfilled(DType::i32, {tiles * chunks * chunk_words});
  auto* all_words = reinterpret_cast<uint32_t*>(result.chunks.data());

  // Words of eight codes + 8; beyond the matrix a scale of zero makes any code a zero.
  const auto* codes = reinterpret_cast<const uint32_t*>(weight.data());
  const int64_t row_words = linear.in / 8;
  const auto scales = linear.scale.as<bf16>();
  result.factors.resize(static_cast<size_t>(linear.out));
  pool.parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      uint32_t* of_tile = all_words + tile * chunks * chunk_words;
      std::fill_n(of_tile, chunks * chunk_words, 0u);
      for (int64_t n = 0; n < kInt4Outs; n += n % 8 == 7 ? 9 : 1) {
        const int64_t row = tile * kInt4Outs + n, lane = n / 16 * 32 + n % 8 * 4;
        for (int64_t step = 0; step < result.in_padded / 16; ++step) {
          uint32_t low[2] = {}, high[2] = {};
          for (int64_t half = 0; half < 2; ++half) {
            const int64_t word = 2 * step + half;
            if (word >= row_words) continue;
            if (row < linear.out) low[half] = codes[row * row_words + word];
            if (row + 8 < linear.out) high[half] = codes[(row + 8) * row_words + word];
          }
          const int64_t within = step % 8;
          place_step(low, high,
                     of_tile + step / 8 * chunk_words + (within / 4 * 128 + lane) * 4 + within % 4,
                     4);
        }
      }
      for (int64_t n = 0; n < kInt4Outs && tile * kInt4Outs + n < linear.out; ++n) {
        const int64_t row = tile * kInt4Outs + n;
        const int half = n % 16 / 8, shift = 16 * half;
        const std::optional<int> exponent = exponent_of(scales.subspan(
            static_cast<size_t>(row * from_groups), static_cast<size_t>(from_groups)));
        result.factors[static_cast<size_t>(row)] =
            exponent ? std::ldexp(1.0f, *exponent + 133 - kLargestExponent)
                     : std::numeric_limits<float>::quiet_NaN();
        for (int64_t k = 0; k < linear.in; k += result.group) {
          const auto from = static_cast<size_t>(row * from_groups + k / from_group);
          uint32_t* to = of_tile + k / kInt4Inputs * chunk_words + kWordsOfChunk +
                         k % kInt4Inputs / result.group * kWordsOfGroup + n / 16 * 8 + n % 8;
          if (exponent) {
            const float scale =
                std::ldexp(to_float(scales[from]), kLargestExponent - 4 * half - *exponent);
            *to |= static_cast<uint32_t>(to_bf16(scale).bits) << shift;
          }
          if (result.offsets)
            to[groups * kWordsOfGroup] |=
                static_cast<uint32_t>(8 + linear.zero_point.as<int8_t>()[from])
                << (shift + 4 * half);
        }
      }
    }
  });
  return result;
}

}  // namespace narrow::ops::cuda
