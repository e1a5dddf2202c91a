// The stream of the kernel of whole layers, through a ring in shared memory: tile after tile of the
// weights of all products of all layers and the head, and behind qkv's the cached keys and values
// of the block's pieces of attention, a stage of keys and one of values for each.
#pragma once

#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// filler: of kFillers. One brings the first group of eight outputs of a stage, the other the
// second; of 4-bit weights the words and the scales; of pieces two pages each.
template <class Format, int kHeadDim, class Kv>
class RowStream {
 public:
  __device__ RowStream(const RowLayers& work, RowShared& shared, uint8_t* ring, int filler)
      : work_(work),
        shared_(shared),
        ring_(ring),
        filler_(filler),
        visible_(work.batch.single_visible[0]) {
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
        const RowLayers::Product& cut = work_.product[product];
        if constexpr (kIsInt4<Format>) {
          const int sections = 1 << cut.halved;
          stream(shared_.tiles[product] * sections, cut.steps, kInt4Tiles * sections,
                 [&](int i, int step) {
                   load_int4(map, &of.scales[product],
                             rows_of_tile<Format>(work_, product, i >> cut.halved).first,
                             (i & cut.halved) * (kInt4Parts / 2), step * int4_chunks_of_stage(cut));
                 });
        } else {
          stream(shared_.tiles[product], cut.steps, kRowBeside, [&](int tile, int step) {
            load_group(map, rows_of_tile<Format>(work_, product, tile), step);
          });
        }
        if (product == kQkv) stream_pieces(layer);
      }
    }
  }

 private:
  // units: tiles, or sections of them; load(unit, step).
  template <class Load>
  __device__ void stream(int units, int steps, int most_beside, Load load) {
#pragma unroll 1
    for (int first = 0; first < units; first += most_beside) {
      const int beside = min(most_beside, units - first);
#pragma unroll 1
      for (int step = 0; step < steps; ++step)
#pragma unroll 1
        for (int i = 0; i < beside; ++i) {
          wait_for_stage();
          load(first + i, step);
          at_.next(1, work_.stages);
        }
    }
  }

  // Of a page that the row does not see nothing is brought.
  __device__ void stream_pieces(int layer) {
    constexpr int kPageNumbers = kPage * kHeadDim;
    constexpr uint32_t kBytes = kPageNumbers * sizeof(Kv);
    constexpr int kMine = kPages / kFillers;
    static_assert(kPages * kBytes <= kRowStageBytes);
    const int kv_heads = work_.attention.kv_heads;
    const int32_t* const table = work_.batch.block_table + work_.batch.single_table[0];
    const BlockPieces pieces(pieces_of(visible_), kv_heads);
#pragma unroll 1
    for (int piece = pieces.last; piece >= 0; piece -= pieces.stride) {
      const int first = piece * kPages + filler_ * kMine;
      const int count = max(0, min(kMine, (visible_ + kPage - 1) / kPage - first));
      const Kv* from[kMine];
#pragma unroll
      for (int page = 0; page < kMine; ++page)
        from[page] = static_cast<const Kv*>(work_.kv[layer]) +
                     (static_cast<int64_t>(page < count ? table[first + page] : 0) * 2 * kv_heads +
                      pieces.kv_head) *
                         kPageNumbers;
#pragma unroll 1
      for (int kind = 0; kind < 2; ++kind) {
        wait_for_stage();
        uint64_t* full = &shared_.full[at_.slot];
        uint8_t* to = ring_ + at_.slot * Format::kStage + filler_ * kMine * kBytes;
        arrive_expecting(full, static_cast<uint32_t>(count) * kBytes);
#pragma unroll
        for (int page = 0; page < kMine; ++page)
          if (page < count)
            copy_bytes(to + page * kBytes, from[page] + kind * kv_heads * kPageNumbers, kBytes,
                       full);
        at_.next(1, work_.stages);
      }
    }
  }

  // Until there is a place for the next stage, and no more are under way than ought to be.
  __device__ void wait_for_stage() {
    const int begun = *const_cast<const volatile int*>(&shared_.begun);
    for (const int most = product_ > begun ? kRowAhead : work_.under_way; under_way_ >= most;
         --under_way_) {
      wait(&shared_.full[landing_.slot], landing_.parity);
      landing_.next(1, work_.stages);
    }
    ++under_way_;
    wait(&shared_.empty[at_.slot], at_.parity);
  }

  __device__ void load_group(const CUtensorMap* map, RowTileRows rows, int step) {
    uint64_t* full = &shared_.full[at_.slot];
    arrive_expecting(full, kRowGroupBytes);
    copy_tile(ring_ + at_.slot * Format::kStage + filler_ * kRowGroupBytes, map, 0,
              filler_ == 0 ? rows.first : rows.second, step * (kRowSegment / kAtomBytes), full);
  }
  // chunk: of each of the parts that a stage has, of which `part` is the first.
  __device__ void load_int4(const CUtensorMap* words, const CUtensorMap* scales, int row, int part,
                            int chunk) {
    uint64_t* full = &shared_.full[at_.slot];
    uint8_t* to = ring_ + at_.slot * Format::kStage;
    const int tile = row / kInt4Outs, quarter = row % kInt4Outs / 16;
    constexpr int kKinds = Format::kOffsets ? 2 : 1;
    if (filler_ == 0) {
      arrive_expecting(full, kRowStageBytes);
      copy_box(to, words, quarter * 128, 0, chunk, part, tile, full);
    } else {
      arrive_expecting(full, kKinds * kInt4StageChunks * 32);
      copy_box(to + kRowStageBytes, scales, quarter * 8, 0, chunk, part, tile, full);
    }
  }

  const RowLayers& work_;
  RowShared& shared_;
  uint8_t* const ring_;
  const int filler_;
  const int visible_;
  RingPlace at_, landing_;
  int under_way_ = 0;
  int product_ = 0;  // as begin_product() counts
};

}  // namespace narrow::ops::cuda
