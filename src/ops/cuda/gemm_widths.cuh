// How wide the tiles of a product are (gemm.cuh). Blocks take tiles in rounds: wide tiles read rows
// of x less often, narrow ones leave fewer processors idle in the last round. On the host; costs
// are those of docs/performance/products.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ops/cuda/capability.h"
#include "ops/cuda/divide.h"
#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

// The first of the widths with the least cost(width).
template <class Cost, int... kOuts>
int best_width(std::integer_sequence<int, kOuts...>, Cost cost) {
  const auto costs_less = [&](int a, int b) { return cost(a) < cost(b); };
  return std::min({kOuts...}, costs_less);
}

// Calls launch(std::integral_constant<int, width>).
template <class Launch, int... kOuts>
void with_width(std::integer_sequence<int, kOuts...>, int width, Launch launch) {
  const auto launch_if = [&]<int kOut>(std::integral_constant<int, kOut> of) {
    if (kOut == width) launch(of);
  };
  (launch_if(std::integral_constant<int, kOuts>()), ...);
}

// Blocks of 64 rows that each of two warpgroups has in an activated product's tile of this width.
// 256 rows by 192 outputs bring a fifth less to shared memory for a product than 128 by 256: that
// gains a few per cent where the card's power limit is what holds products up.
template <MmaType type>
constexpr int gated_high(int width) {
  return type == MmaType::bf16 && width == 192 ? 2 : 1;
}

// What a round of tiles of two warpgroups costs, by their width: hundredths of one of 64 outputs,
// measured (docs/performance/products.md).
constexpr int round_cost(int width, int high) {
  if (high == 2) return 345;
  switch (width) {
    case 64:
      return 100;
    case 96:
      return 112;
    case 128:
      return 138;
    case 192:
      return 184;
    case 224:
      return 220;
    default:
      return 240;
  }
}

// Where tiles of one width would leave processors idle in the last round, the last outputs are a
// product of their own, in narrower tiles, whose blocks begin as those of the first one leave.
struct TwoWidths {
  int first = 0, second = 0;
  int64_t outputs = 0;       // of the first width
  int64_t cost = INT64_MAX;  // so much: there are no such two
};
// Of the first width: of more, one that is not whole costs little.
inline constexpr int kMostFirstRounds = 8;

// What `second` tiles cost that begin as blocks of `first` tiles leave, in round_cost()'s measure.
inline int64_t cost_behind(int64_t first, int64_t first_cost, int64_t second, int64_t second_cost,
                           int64_t processors) {
  const auto rounds_of_block = [&](int64_t block) { return div_up(second - block, processors); };
  const int64_t late = first % processors, rounds = first / processors;
  const int64_t early_end = rounds * first_cost + rounds_of_block(0) * second_cost;
  if (late == 0) return early_end;
  return std::max(early_end,
                  (rounds + 1) * first_cost +
                      rounds_of_block(std::min(processors - late, second)) * second_cost);
}

// The best of `widths` for `out` outputs of `row_tiles` tiles along the rows.
template <int... kOuts>
TwoWidths best_two_widths(std::integer_sequence<int, kOuts...>, int64_t out, int64_t row_tiles) {
  const int64_t processors = cuda::processors();
  TwoWidths best;
  for (const int first : {kOuts...})
    for (const int second : {kOuts...})
      for (int64_t rounds = 1; second < first && rounds <= kMostFirstRounds; ++rounds) {
        const int64_t columns = rounds * processors / row_tiles, outputs = columns * first;
        if (outputs >= out) break;
        if (columns == 0) continue;
        const int64_t cost = cost_behind(columns * row_tiles, round_cost(first, 1),
                                         div_up(out - outputs, second) * row_tiles,
                                         round_cost(second, 1), processors);
        if (cost < best.cost) best = {first, second, outputs, cost};
      }
  return best;
}

}  // namespace narrow::ops::cuda
