// The products of the kernel of whole layers: y = x Wᵀ of one row, tiles of weights coming through
// the ring. All are called by all consumers; each leaves the block's tiles of y to `store`.
#pragma once

#include "ops/cuda/int4.cuh"
#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// find(column): what is to be multiplied and added, asked for before it is needed. finish(that,
// sum): a sum's value, as the kernels that take the product alone have it. activate(gate, up): of
// values. store(column, low, high): the values of two columns, the first of an even number.
struct ColumnVectors {
  float scale, bias;
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

// bf16 and int8: each of the first two warps of a group sums the eight outputs of its half of the
// tile, with mma, of which x is the first of sixteen rows. Format: of x and the weights; Ring: of
// the kernel. gated: tiles are of gate and up. rows(i): of the block's i-th tile.
template <class Format, class Ring, class Rows, class Find, class Finish, class Activate,
          class Store>
__device__ void multiply(const RowLayers& work, int mine, int steps, bool gated, RowShared& shared,
                         const uint8_t* ring, const uint8_t* x, RingPlace& at, Rows rows, Find find,
                         Finish finish, Activate activate, Store store) {
  using Sum = std::conditional_t<Format::kCodes == Codes::int8, int, float>;
  // Sums of integers have no order.
  constexpr int kSums = Format::kCodes == Codes::int8 ? 2 : 1;
  constexpr int kAtoms = kRowSegment / kAtomBytes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int group = warp / 4, half = warp % 4;
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
    if (group < beside && half < 2) {
      RingPlace here = at;
      here.advance(group, work.stages);
      Sum sums[kSums][4] = {};
      const RowTileRows of_tile = rows(first + group);
      const int column = (half == 0 ? of_tile.first : of_tile.second) + 2 * (lane % 4);
      const ColumnVectors vectors[2] = {find(column), find(column + 1)};
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        wait(&shared.full[here.slot], here.parity);
        const uint8_t* stage = ring + here.slot * Ring::kStage + half * kRowGroupBytes;
        const uint8_t* inputs = of_x + (holds_row ? step * kRowSegment : 0);
#pragma unroll
        for (int atom = 0; atom < kAtoms; ++atom)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const uint4 a = load_matrices(inputs + (holds_row ? atom * kAtomBytes + i * 64 : 0));
            const uint4 b = load_matrices(stage + atom * 1024 + places[i]);
            multiply_add(sums[0], a, b.x, b.y, false);
            multiply_add(sums[kSums - 1], a, b.z, b.w, true);
          }
        __syncwarp();
        if (lane < Ring::kReaders / 2) arrive(&shared.empty[here.slot]);
        here.advance(beside, work.stages);
      }
      const auto value = [&](int i) {
        return finish(vectors[i], kSums == 1 ? sums[0][i] : sums[0][i] + sums[kSums - 1][i]);
      };
      if (gated) {
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

// e4m3, whose bits only wgmma gives: the 64 rows of A are eight outputs of eight atoms of 128
// inputs, the eight of B x's numbers of these atoms, so that of each row one column is wanted. As
// in gemm.cuh the atoms' sums are added up in float32, by one warp of the group while the others go
// on; they lie in `sums` [2 rounds][group][atom][16], of o and down, whose tiles are one round,
// [group][atom][16].
template <class Find, class Finish, class Activate, class Store>
__device__ void multiply_fp8(const RowLayers& work, int product, RowShared& shared,
                             const uint8_t* ring, const uint8_t* x, float* sums, RingPlace& at,
                             Find find, Finish finish, Activate activate, Store store) {
  constexpr int kAtoms = kRowSegment / kAtomBytes, kOuts = 16;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize;
  const int group = thread / kWarpgroup, warp = thread % kWarpgroup / kWarpSize;
  const int mine = tiles_of_block<RowFp8>(work, product), steps = work.product[product].steps;
#pragma unroll 1
  for (int first = 0, round = 0; first < mine; first += kRowBeside, ++round) {
    const int beside = min(kRowBeside, mine - first);
    if (group < beside) {
      RingPlace here = at;
      here.advance(group, work.stages);
      float* const of_tile = sums + (round % 2 * kRowBeside + group) * steps * kAtoms * kOuts;
      const RowTileRows rows = rows_of_tile<RowFp8>(work, product, first + group);
      const int column = (lane / 8 % 2 == 0 ? rows.first : rows.second) + lane % 8;
      const bool adds = warp == round % 4;
      ColumnVectors vectors{};
      if (adds) vectors = find(column);
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        float sum[2][4];
        wait(&shared.full[here.slot], here.parity);
        const uint64_t weights = tile_descriptor(ring + here.slot * RowFp8::kStage);
        const uint64_t inputs = plain_descriptor(x + step * kRowSegment, 128);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            wgmma_eight_e4m3(sum[half], weights + half * (kRowGroupBytes / 16) + 2 * k,
                             inputs + k * (256 / 16), k > 0);
        wgmma_commit();
        wgmma_wait<0>();
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int i = 0; i < 4; ++i) keep(sum[half][i]);
        if (thread % kWarpgroup < RowFp8::kReaders) arrive(&shared.empty[here.slot]);
        // Row 8 a + r of A is output r of atom a, as is column a.
        if (lane % 4 == warp)
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              of_tile[(step * kAtoms + 2 * warp + i) * kOuts + 8 * half + lane / 4] =
                  sum[half][3 * i];
        here.advance(beside, work.stages);
      }
      sync_threads(kOfGroup + group, kWarpgroup);
      if (adds && lane < kOuts) {
        float total = 0;
#pragma unroll 8
        for (int i = 0; i < steps * kAtoms; ++i) total += of_tile[i * kOuts + lane];
        float value = finish(vectors, total);
        if (product == kGateUp) value = activate(value, __shfl_down_sync(0xffff, value, 8));
        const float next = __shfl_down_sync(0xffff, value, 1);
        if (lane % 2 == 0 && (product != kGateUp || lane < 8)) store(column, value, next);
      }
    }
    at.advance(beside * steps, work.stages);
  }
}

// 4-bit weights: each warp of a group sums one of the parts of the inputs, with mma, of which x is
// one column.
template <class Find, class Finish, class Activate, class Store>
__device__ void multiply_int4(const RowLayers& work, int product, RowShared& shared,
                              const uint8_t* ring, const uint8_t* x, RingPlace& at, Find find,
                              Finish finish, Activate activate, Store store) {
  constexpr int kGroupThreads = kRowConsumers / RowInt4::kBeside;
  constexpr int kSteps = kInt4Inputs / 16;
  const int thread = static_cast<int>(threadIdx.x);
  const int group = thread / kGroupThreads, lane = thread % kWarpSize;
  const int part = thread % kGroupThreads / kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int mine = tiles_of_block<RowInt4>(work, product), steps = work.product[product].steps;
  const int chunks = work.product[product].in / kInt4Inputs / kInt4Parts;  // of a part
  const int kinds = work.offsets ? 2 : 1;
  // Rows of B: x and seven of zeros.
  const bool holds_row = lane % 8 == 0;
  const uint8_t* const of_part = holds_row ? x + (part * chunks * kInt4Inputs + 8 * (lane / 8)) * 2
                                           : reinterpret_cast<const uint8_t*>(&shared.zeros);
  const int chunk_stride = holds_row ? kInt4Inputs * 2 : 0, pair_stride = holds_row ? 64 : 0;
  for (int first = 0, round = 0; first < mine; first += RowInt4::kBeside, ++round) {
    const int beside = min(RowInt4::kBeside, mine - first);
    if (group < beside) {
      RingPlace here = at;
      here.advance(group, work.stages);
      float sums[4] = {};
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        wait(&shared.full[here.slot], here.parity);
        const uint8_t* stage = ring + here.slot * RowInt4::kStage;
#pragma unroll
        for (int c = 0; c < kInt4StageChunks; ++c) {
          const int chunk = step * kInt4StageChunks + c;
          if (chunk >= chunks) break;
          const auto* units =
              reinterpret_cast<const uint4*>(stage + (part * kInt4StageChunks + c) * 1024) + lane;
          const uint4 low = units[0], high = units[kWarpSize];
          const auto* scales = reinterpret_cast<const uint32_t*>(
              stage + kRowStageBytes + (part * kInt4StageChunks + c) * kinds * 32);
          const Int4Scale scale = spread(scales[g]);
          const Int4Scale offset =
              work.offsets ? spread(scales[8 + g]) : Int4Scale{kSymmetricOffset, kSymmetricOffset};
          const uint32_t words[kSteps] = {low.x,  low.y,  low.z,  low.w,
                                          high.x, high.y, high.z, high.w};
          const uint8_t* inputs = of_part + chunk * chunk_stride;
#pragma unroll
          for (int s = 0; s < kSteps; s += 2) {
            const uint4 b = load_matrices(inputs + s / 2 * pair_stride);
            uint32_t a[4];
            dequantize_int4(words[s], scale, offset, a);
            mma_bf16(sums, a[0], a[1], a[2], a[3], b.x, b.y);
            dequantize_int4(words[s + 1], scale, offset, a);
            mma_bf16(sums, a[0], a[1], a[2], a[3], b.z, b.w);
          }
        }
        __syncwarp();
        if (lane == 0) arrive(&shared.empty[here.slot]);
        here.advance(beside, work.stages);
      }
      if (t == 0) {
        shared.parts[round % kInt4Rounds][group][part][g] = sums[0];
        shared.parts[round % kInt4Rounds][group][part][g + 8] = sums[2];
      }
    }
    // A warp adds up the parts, of both tiles, while the others go on.
    if (round_is_left(round, thread / kWarpSize == round % (kRowConsumers / kWarpSize))) {
      const int tile = lane / 16, output = lane % 16;
      const int column =
          rows_of_tile<RowInt4>(work, product, first + min(tile, beside - 1)).first + output;
      const ColumnVectors vectors = find(column);
      float total = 0;
#pragma unroll
      for (int p = 0; p < kInt4Parts; ++p)
        total += shared.parts[round % kInt4Rounds][tile][p][output];
      float value = finish(vectors, total);
      if (product == kGateUp) {
        const float up = __shfl_down_sync(0xffffffffu, value, 16);
        value = activate(value, up);
      }
      const float next = __shfl_down_sync(0xffffffffu, value, 1);
      if (output % 2 == 0 && (product == kGateUp ? tile == 0 : tile < beside))
        store(column, value, next);
    }
    at.advance(beside * steps, work.stages);
  }
}

}  // namespace narrow::ops::cuda
