// The products of the kernel of whole layers: y = x Wᵀ of one row, tiles of weights coming through
// the ring. All are called by all consumers; each leaves the block's tiles of y to `store`.
#pragma once

#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// find(column): what is to be multiplied and added, asked for before it is needed. finish(that,
// sum): a sum's value, as the kernels that take the product alone have it. activate(gate, up): of
// values. store(column, low, high): the values of two columns, the first of an even number.
struct ColumnVectors {
  float scale, bias;
};

// Groups without a tile of their own share others' where the order of sums allows it, in a
// product's last round: a tile's steps go round its sharers. beside: tiles of the round. Nothing is
// divided by it, which would be two dozen instructions before every round.
struct Sharing {
  int tile, sharer = 0, sharers;  // sharer: of sharers, or none of them
  __device__ Sharing(int group, int beside, bool allowed)
      : tile(group), sharers(!allowed || beside > kRowBeside / 2 ? 1 : kRowBeside >> (beside - 1)) {
    static_assert(kRowBeside == 4);
#pragma unroll
    for (int i = 1; i < kRowBeside; ++i)
      if (tile >= beside) tile -= beside, ++sharer;
  }
  // Where sums of a round lie, of kRoundPlaces: not where another group may still read its own.
  __device__ int place(int round) const { return sharers > 1 && round > 1 ? 2 : round % 2; }
};

// x: two steps of inputs, of which one is multiplied.
__device__ inline void multiply_add(float (&sums)[4], const uint4& x, uint32_t w0, uint32_t w1,
                                    bool second) {
  mma_bf16(sums, second ? x.z : x.x, 0, second ? x.w : x.y, 0, w0, w1);
}
__device__ inline void multiply_add(int (&sums)[4], const uint4& x, uint32_t w0, uint32_t w1,
                                    bool second) {
  mma_int8(sums, second ? x.z : x.x, 0, second ? x.w : x.y, 0, w0, w1);
}

// bf16 and int8: a warp sums the eight outputs of one half of a tile, with mma, of which x is the
// first of sixteen rows. Of bf16 a group has one warp for each half; of int8, whose sums have no
// order, two, which take half of a stage's inputs each. Format: of x and the weights; Ring: of the
// kernel. gated: tiles are of gate and up. rows(i): of the block's i-th tile.
template <class Format, class Ring, class Rows, class Find, class Finish, class Activate,
          class Store>
__device__ void multiply(const RowLayers& work, int mine, int steps, bool gated, RowShared& shared,
                         const uint8_t* ring, const uint8_t* x, RingPlace& at, Rows rows, Find find,
                         Finish finish, Activate activate, Store store) {
  using Sum = std::conditional_t<Format::kCodes == Codes::int8, int, float>;
  constexpr bool kShares = Format::kCodes == Codes::int8;
  constexpr int kSums = kShares ? 2 : 1, kParts = kShares ? 2 : 1;
  constexpr int kArrivals = Ring::kReaders / (2 * kParts);
  constexpr int kAtoms = kRowSegment / kAtomBytes / kParts;
  const int warp = this_thread() / kWarpSize, lane = this_thread() % kWarpSize;
  const int group = warp / 4, half = kShares ? warp % 2 : warp % 4;
  const int part = kShares ? warp % 4 / 2 : 0;
  // Rows of A: x and seven of zeros. Units of sixteen bytes of B lie exchanged within their row.
  const bool holds_row = lane % 8 == 0;
  const uint8_t* const of_x =
      holds_row ? x + lane / 8 * 16 : reinterpret_cast<const uint8_t*>(&shared.zeros);
  const int unit = lane / 8, row = lane % 8;
  const int places[2] = {row * kAtomBytes + (unit ^ row) * 16,
                         row * kAtomBytes + ((unit + 4) ^ row) * 16};
#pragma unroll 1
  for (int first = 0, round = 0; first < mine; first += kRowBeside, ++round) {
    const int beside = min(kRowBeside, mine - first);
    const Sharing share(group, beside, kShares);
    if (share.sharer < share.sharers && half < 2) {
      RingPlace here = at;
      here.next(group, work.stages);
      Sum sums[kSums][4] = {};
      const RowTileRows of_tile = rows(first + share.tile);
      const int column = (half == 0 ? of_tile.first : of_tile.second) + 2 * (lane % 4);
      const ColumnVectors vectors[2] = {find(column), find(column + 1)};
#pragma unroll 1
      for (int step = share.sharer; step < steps; step += share.sharers) {
        wait(&shared.full[here.slot], here.parity);
        const uint8_t* stage =
            ring + here.slot * Ring::kStage + half * kRowGroupBytes + part * kAtoms * 1024;
        const uint8_t* inputs =
            of_x + (holds_row ? step * kRowSegment + part * kAtoms * kAtomBytes : 0);
        const auto load_x = [&](int i) { return load_matrices(inputs + (holds_row ? i * 64 : 0)); };
        const auto load_weights = [&](int i) {
          return load_matrices(stage + i / 2 * 1024 + places[i % 2]);
        };
        // The next are on their way while these are multiplied.
        uint4 a = load_x(0), b = load_weights(0);
#pragma unroll
        for (int i = 0; i < 2 * kAtoms; ++i) {
          const uint4 next_a = i + 1 < 2 * kAtoms ? load_x(i + 1) : uint4{};
          const uint4 next_b = i + 1 < 2 * kAtoms ? load_weights(i + 1) : uint4{};
          multiply_add(sums[0], a, b.x, b.y, false);
          multiply_add(sums[kSums - 1], a, b.z, b.w, true);
          a = next_a, b = next_b;
        }
        __syncwarp();
        if (lane < kArrivals) arrive(&shared.empty[here.slot]);
        here.next(beside * share.sharers, work.stages);
      }
      if constexpr (kShares) {
        sums[0][0] += sums[1][0], sums[0][1] += sums[1][1];
        const int sharers = kParts * share.sharers, sharer = kParts * share.sharer + part;
        const int place = share.place(round);
        int2* const of_lane = &shared.shares[place][share.tile * sharers][4 * half + lane % 4];
        constexpr int kStride = 8;  // of sharers
        if (lane < 4) of_lane[kStride * sharer] = make_int2(sums[0][0], sums[0][1]);
        sync_threads((share.sharers > 1 ? kOfTile : kOfGroup) + share.tile,
                     sharers * 2 * kWarpSize);
        for (int i = 1; i < sharers; ++i) {
          sums[0][0] += of_lane[kStride * i].x;
          sums[0][1] += of_lane[kStride * i].y;
        }
      }
      const auto value = [&](int i) { return finish(vectors[i], sums[0][i]); };
      if (share.sharer > 0 || part > 0) {
        // The first writes the tile.
      } else if (gated) {
        float* up = shared.up[round % 2][group];
        if (half == 1 && lane < 4) up[2 * lane] = value(0), up[2 * lane + 1] = value(1);
        sync_threads(kOfPair + group, 2 * kWarpSize);
        if (half == 0 && lane < 4)
          store(column, activate(value(0), up[2 * lane]), activate(value(1), up[2 * lane + 1]));
      } else if (lane < 4) {
        store(column, value(0), value(1));
      }
    }
    at.advance(beside * steps, work.stages);
  }
}

// e4m3, whose bits only wgmma gives: the tiles that are multiplied side by side are the 64 rows of
// A, which come to registers, a tile's sixteen to one warp; x is the first of eight rows of B (what
// the others read behind it is the residual). One group multiplies, since a sum goes through all
// inputs in their order; the others go on to where all consumers meet before they wait for a stage
// again. A warp without a tile keeps step with the last tile's, and what it multiplies, perhaps of
// a stage that is being filled again, is not stored.
template <class Find, class Finish, class Activate, class Store>
__device__ void multiply_fp8(const RowLayers& work, int product, RowShared& shared,
                             const uint8_t* ring, const uint8_t* x, RingPlace& at, Find find,
                             Finish finish, Activate activate, Store store) {
  constexpr int kPairs =
      kRowSegment / 32 / 2;   // of products of a stage, which are asked for in pairs
  constexpr int kPlaces = 4;  // pairs whose operands are there or on their way
  static_assert(kRowBeside == kWarpgroup / kWarpSize);
  const int thread = this_thread(), lane = thread % kWarpSize, warp = thread / kWarpSize;
  const int mine = shared.tiles[product], steps = work.product[product].steps;
  if (thread >= kWarpgroup) return at.advance(mine * steps, work.stages);
  // Where the lane's row of matrix lane / 8 lies in a stage: of the first or the second eight, the
  // lower or the higher half of 32 inputs. Units of sixteen bytes lie exchanged within their row.
  const int row = lane % 8;
  const int place = lane / 8 % 2 * kRowGroupBytes + row * kAtomBytes, unit = lane / 16 ^ row;
#pragma unroll 1
  for (int first = 0; first < mine; first += kRowBeside) {
    const int beside = min(kRowBeside, mine - first), tile = min(warp, beside - 1);
    RingPlace here = at;
    here.next(tile, work.stages);
    const RowTileRows rows = rows_of_tile<RowFp8>(work, product, first + tile);
    // Lanes 4 g and 4 g + 1 have output g of the first and of the second eight.
    const int column = (lane % 2 == 0 ? rows.first : rows.second) + lane / 4;
    const ColumnVectors vectors = find(column);
    float sums[4] = {};
    uint4 weights[kPlaces][2];
    const auto load = [&](int pair) {
      const uint8_t* const stage = ring + here.slot * RowFp8::kStage + place;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = 2 * pair + i;
        weights[pair % kPlaces][i] = load_matrices(stage + k / 4 * 1024 + (unit ^ k % 4 * 2) * 16);
      }
    };
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      // Exchanged for the compiler to know that it is the warp's (warpgroup() in hopper.cuh).
      const uint32_t inputs =
          __shfl_sync(0xffffffff, row_descriptor_low(x + step * kRowSegment), 0);
      wait(&shared.full[here.slot], here.parity);
#pragma unroll
      for (int pair = 0; pair < kPlaces - 1; ++pair) load(pair);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 2; ++i)
          wgmma_eight_e4m3(sums, weights[pair % kPlaces][i], uint64_t{inputs + 2 * (2 * pair + i)});
        wgmma_commit();
        wgmma_wait<1>();  // the products of the pair before are made: its registers may change
        if (pair + kPlaces - 1 < kPairs) load(pair + kPlaces - 1);
      }
      __syncwarp();
      if (warp < beside && lane < RowFp8::kReaders) arrive(&shared.empty[here.slot]);
      here.next(beside, work.stages);
    }
    wgmma_wait<0>();
#pragma unroll
    for (float& sum : sums) keep(sum);
    const float second = __shfl_sync(0xffffffff, sums[2], lane / 4 * 4);
    float value = finish(vectors, lane % 2 == 0 ? sums[0] : second);
    if (product == kGateUp) value = activate(value, __shfl_down_sync(0xffffffff, value, 1));
    const float next = __shfl_down_sync(0xffffffff, value, 4);
    if (warp < beside && lane % 8 < (product == kGateUp ? 1 : 2)) store(column, value, next);
    at.advance(beside * steps, work.stages);
  }
}

}  // namespace narrow::ops::cuda
