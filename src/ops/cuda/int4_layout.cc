#include "ops/cuda/int4_layout.h"

#include <algorithm>
#include <array>
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

constexpr int kSteps = 4;  // of sixteen inputs, whose words a thread has side by side

// Words of eight codes + 8 each, of the inputs of kSteps steps, the first input lowest.
using RowWords = std::array<uint32_t, 2 * kSteps>;

// Rows g and g + 8 for the four lanes of a quad (int4.cuh). to: [4 lanes][kSteps].
void place_steps(const RowWords& low, const RowWords& high, uint32_t* to) {
  constexpr uint32_t kEven = 0x0f0f0f0f;  // inputs
  // Of a step, byte t is lane t's; for all steps at once, which a compiler makes vectors of.
  std::array<uint32_t, kSteps> bytes[4];
  for (int s = 0; s < kSteps; ++s) {
    const uint32_t a = low[2 * s], b = high[2 * s], c = low[2 * s + 1], d = high[2 * s + 1];
    bytes[0][s] = (a & kEven) | (b & kEven) << 4;
    bytes[1][s] = (c & kEven) | (d & kEven) << 4;
    bytes[2][s] = (a >> 4 & kEven) | (b & ~kEven);
    bytes[3][s] = (c >> 4 & kEven) | (d & ~kEven);
  }
  for (int t = 0; t < 4; ++t)
    for (int s = 0; s < kSteps; ++s) {
      const auto byte = [&](int i) { return (bytes[i][s] >> 8 * t & 0xff) << 8 * i; };
      to[kSteps * t + s] = byte(0) | byte(1) | byte(2) | byte(3);
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
      for (int64_t chunk = 0; chunk < chunks; ++chunk)
        std::fill_n(of_tile + chunk * chunk_words + kWordsOfChunk, chunk_words - kWordsOfChunk, 0u);
      const auto words_of = [&](int64_t row, int64_t first) {
        RowWords words = {};
        if (row < linear.out && first < row_words)
          std::copy_n(codes + row * row_words + first,
                      std::min<int64_t>(row_words - first, 2 * kSteps), words.begin());
        return words;
      };
      for (int64_t n = 0; n < kInt4Outs; n += n % 8 == 7 ? 9 : 1) {
        const int64_t row = tile * kInt4Outs + n, lane = n / 16 * 32 + n % 8 * 4;
        for (int64_t half = 0; half < 2 * chunks; ++half)
          place_steps(
              words_of(row, half * 2 * kSteps), words_of(row + 8, half * 2 * kSteps),
              of_tile + half / 2 * chunk_words + half % 2 * (kWordsOfChunk / 2) + lane * kSteps);
      }
      for (int64_t n = 0; n < kInt4Outs && tile * kInt4Outs + n < linear.out; ++n) {
        const int64_t row = tile * kInt4Outs + n;
        const int half = n % 16 / 8, shift = 16 * half;
        const std::optional<int> exponent = exponent_of(scales.subspan(
            static_cast<size_t>(row * from_groups), static_cast<size_t>(from_groups)));
        result.factors[static_cast<size_t>(row)] =
            exponent ? std::ldexp(1.0f, *exponent + 133 - kLargestExponent)
                     : std::numeric_limits<float>::quiet_NaN();
        const double unit = exponent ? std::ldexp(1.0, kLargestExponent - 4 * half - *exponent) : 0;
        for (int64_t k = 0; k < linear.in; k += result.group) {
          const auto from = static_cast<size_t>(row * from_groups + k / from_group);
          uint32_t* to = of_tile + k / kInt4Inputs * chunk_words + kWordsOfChunk +
                         k % kInt4Inputs / result.group * kWordsOfGroup + n / 16 * 8 + n % 8;
          if (exponent) {
            const auto scale = static_cast<float>(to_float(scales[from]) * unit);
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
