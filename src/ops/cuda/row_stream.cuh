// The stream of weights of the kernel of whole layers: tile after tile of all products of all
// layers and the head, through a ring in shared memory.
#pragma once

#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// filler: of kFillers. One brings the first group of eight outputs of a stage, the other the
// second; of 4-bit weights the words and the scales.
template <class Format>
class WeightStream {
 public:
  __device__ WeightStream(const RowLayers& work, RowShared& shared, uint8_t* ring, int filler)
      : work_(work), shared_(shared), ring_(ring), filler_(filler) {
    at_.parity = 1;  // of the phase before the first: an empty ring may be filled
  }

  __device__ void run() {
#pragma unroll 1
    for (int layer = 0; layer <= work_.layers; ++layer) {
      const RowLayer& of = work_.table[layer];
      if (layer < work_.layers && blockIdx.x == 0 && filler_ == 0)
        for (const float* norm : (&of + 1)->norm)
          if (norm) prefetch_bytes(norm, static_cast<uint32_t>(work_.hidden) * sizeof(float));
#pragma unroll 1
      for (int product = 0; product < kRowProducts; ++product) {
        ++product_;
        const CUtensorMap* const map = &of.weights[product];
        if (layer == work_.layers) {
          // The head's x and weights are bf16 whatever the layers' are.
          stream(shared_.tiles[kRowProducts], work_.head.steps, kRowBeside,
                 [&](int tile, int step) { load_group(map, rows_of_tile(tile), step); });
          return;
        }
        prefetch_map(product + 1 < kRowProducts ? map + 1 : (&of + 1)->weights);
        stream(shared_.tiles[product], work_.product[product].steps, Format::kBeside,
               [&](int tile, int step) {
                 const RowTileRows rows = rows_of_tile<Format>(work_, product, tile);
                 if constexpr (kIsInt4<Format>) {
                   load_int4(map, &of.scales[product], rows.first, step);
                 } else {
                   load_group(map, rows, step);
                 }
               });
      }
    }
  }

 private:
  template <class Load>
  __device__ void stream(int tiles, int steps, int most_beside, Load load) {
#pragma unroll 1
    for (int first = 0; first < tiles; first += most_beside) {
      const int beside = min(most_beside, tiles - first);
#pragma unroll 1
      for (int step = 0; step < steps; ++step)
#pragma unroll 1
        for (int i = 0; i < beside; ++i) {
          const int begun = *const_cast<const volatile int*>(&shared_.begun);
          for (const int most = product_ > begun ? kRowAhead : work_.under_way; under_way_ >= most;
               --under_way_) {
            wait(&shared_.full[landing_.slot], landing_.parity);
            landing_.advance(1, work_.stages);
          }
          ++under_way_;
          wait(&shared_.empty[at_.slot], at_.parity);
          load(first + i, step);
          at_.advance(1, work_.stages);
        }
    }
  }

  __device__ void load_group(const CUtensorMap* map, RowTileRows rows, int step) {
    uint64_t* full = &shared_.full[at_.slot];
    arrive_expecting(full, kRowGroupBytes);
    copy_tile(ring_ + at_.slot * Format::kStage + filler_ * kRowGroupBytes, map, 0,
              filler_ == 0 ? rows.first : rows.second, step * (kRowSegment / kAtomBytes), full);
  }
  __device__ void load_int4(const CUtensorMap* words, const CUtensorMap* scales, int row,
                            int step) {
    uint64_t* full = &shared_.full[at_.slot];
    uint8_t* to = ring_ + at_.slot * Format::kStage;
    const int chunk = step * kInt4StageChunks, tile = row / kInt4Outs,
              quarter = row % kInt4Outs / 16;
    const int kinds = work_.offsets ? 2 : 1;
    if (filler_ == 0) {
      arrive_expecting(full, kRowStageBytes);
      copy_box(to, words, quarter * 128, 0, chunk, 0, tile, full);
    } else {
      arrive_expecting(full, static_cast<uint32_t>(kinds * kInt4StageChunks * kInt4Parts * 32));
      copy_box(to + kRowStageBytes, scales, quarter * 8, 0, chunk, 0, tile, full);
    }
  }

  const RowLayers& work_;
  RowShared& shared_;
  uint8_t* const ring_;
  const int filler_;
  RingPlace at_, landing_;
  int under_way_ = 0;
  int product_ = 0;  // as begin_product() counts
};

}  // namespace narrow::ops::cuda
