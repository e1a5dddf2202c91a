#include "ops/cuda/int4_layout.h"

#include <algorithm>

namespace narrow::ops::cuda {
namespace {

constexpr int64_t kRows = 16;        // of a row tile
constexpr int64_t kChunk = 64;       // inputs of one load
constexpr int64_t kPadInputs = 128;  // inputs of one step of a warp

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

int64_t stored_group(const PackedLinear& linear) {
  const QuantArgs& args = *linear.scheme.weights;
  return args.strategy == QuantArgs::Strategy::group ? args.group_size : linear.in;
}

// Where in a word the code of row g + 8 high of input e0 + e goes (int4.cuh).
int nibble_of(int e, bool high) {
  constexpr int kLow[4] = {0, 4, 2, 6};
  return kLow[e] + (high ? 1 : 0);
}

}  // namespace

bool runs_as_int4(const PackedLinear& linear) {
  if (linear.scheme.dense() || linear.scheme.inputs) return false;
  const QuantArgs& args = *linear.scheme.weights;
  if (args.type != QuantArgs::Type::integer || args.bits != 4) return false;
  if (linear.in % 8 != 0) return false;  // rows of x would not be aligned
  if (!linear.group_index.empty() || linear.scale.dtype() != DType::bf16) return false;
  if (args.strategy != QuantArgs::Strategy::group)
    return args.strategy == QuantArgs::Strategy::channel;
  return args.group_size == 32 || args.group_size == 64 || args.group_size % 128 == 0;
}

Int4Layout make_int4_layout(const PackedLinear& linear, ThreadPool& pool) {
  const int64_t from_group = stored_group(linear),
                from_groups = linear.scale.elements() / linear.out;
  Int4Layout result;
  result.group =
      static_cast<int>(std::min<int64_t>(from_group == linear.in ? 128 : from_group, 128));
  result.in_padded = round_up(linear.in, kPadInputs);
  const int64_t tiles = (linear.out + kRows - 1) / kRows, chunks = result.in_padded / kChunk;
  const int64_t groups = result.in_padded / result.group;
  result.words.assign(static_cast<size_t>(tiles * chunks * 32 * 4), 0);
  result.scales.assign(static_cast<size_t>(tiles * groups * 8), 0);
  if (!linear.zero_point.empty()) result.offsets = result.scales;

  const Tensor unpacked = unpack_codes(linear);
  const int8_t* codes = unpacked.as<int8_t>().data();
  const auto scales = linear.scale.as<bf16>();
  pool.parallel_for(tiles, 4, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      for (int64_t r = 0; r < kRows && tile * kRows + r < linear.out; ++r) {
        const int64_t n = tile * kRows + r, g = r % 8;
        const bool high = r >= 8;
        uint32_t* words = result.words.data() + tile * chunks * 128;
        for (int64_t k = 0; k < linear.in; ++k) {
          const int64_t within = k % kChunk;
          const int64_t t = within % 32 / 8;
          const int64_t s = within / 32 * 2 + within % 8 / 4;
          const auto code = static_cast<uint32_t>(codes[n * linear.in + k] + 8);
          words[(k / kChunk * 32 + g * 4 + t) * 4 + s] |=
              code << (4 * nibble_of(static_cast<int>(k % 4), high));
        }
        for (int64_t group = 0; group < groups; ++group) {
          const int64_t k = group * result.group;
          if (k >= linear.in) break;
          const auto from = static_cast<size_t>(n * from_groups + k / from_group);
          const auto to = static_cast<size_t>((tile * groups + group) * 8 + g);
          const int shift = high ? 16 : 0;
          result.scales[to] |= static_cast<uint32_t>(scales[from].bits) << shift;
          if (!result.offsets.empty()) {
            const float offset = 136.0f + static_cast<float>(linear.zero_point.as<int8_t>()[from]);
            result.offsets[to] |= static_cast<uint32_t>(to_bf16(offset).bits) << shift;
          }
        }
      }
    }
  });
  return result;
}

}  // namespace narrow::ops::cuda
