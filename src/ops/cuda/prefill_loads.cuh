// How queries, keys and values of prefill_attention() get to shared memory: by a warpgroup that
// does nothing else, a warp for each page of a piece. It keeps a ring of pieces filled, on into the
// next part: by the copy engine, or, of a cache in e4m3, by hand; and brings that part's queries.
#pragma once

#include "ops/cuda/async_copies.cuh"
#include "ops/cuda/cache_tiles.cuh"
#include "ops/cuda/prefill_parts.cuh"

namespace narrow::ops::cuda {

inline constexpr int kGroupRows = 64;  // of a warpgroup that multiplies
inline constexpr int kPartGroups = kPartRows / kGroupRows;
inline constexpr int kPrefillStages = 4;
inline constexpr int kQueryPlaces = 2;  // queries of the next part come meanwhile

template <int kHeadDim>
struct PrefillTiles {
  PieceTiles<kHeadDim> ring[kPrefillStages];
  uint8_t queries[kQueryPlaces][kPartGroups][kHeadDim / 64][kGroupRows * kAtomBytes];
};

// The parts at hand, and barriers: of pieces, that have landed and that have been read, and the
// same of queries.
struct PrefillShared {
  uint64_t full[kPrefillStages], empty[kPrefillStages];
  uint64_t queries_here[kQueryPlaces][kPartGroups], queries_read[kQueryPlaces];
  Part part[kQueryPlaces];
};

// By all threads of the block; a __syncthreads() has to follow.
__device__ inline void init_barriers(PrefillShared& shared) {
  constexpr int kReaders = kPartGroups * kWarpgroup / kWarpSize;
  if (threadIdx.x < kPrefillStages) {
    init_barrier(&shared.full[threadIdx.x], kPages);
    init_barrier(&shared.empty[threadIdx.x], kReaders);
  }
  if (threadIdx.x < kQueryPlaces) {
    // The copies of a warpgroup, and who says which part they are of.
    for (uint64_t& of_group : shared.queries_here[threadIdx.x])
      init_barrier(&of_group, kWarpgroup + 1);
    init_barrier(&shared.queries_read[threadIdx.x], kReaders);
  }
  publish_barriers();
}

// Queries of a group that multiplies, by a warpgroup. Code that a block runs once comes from far
// away, at a price for every few instructions: so the loop is not unrolled.
template <int kHeadDim>
__device__ void load_queries(const Part& part, const AttentionLayer& layer,
                             const __nv_bfloat16* qkv, PrefillTiles<kHeadDim>& tiles,
                             PrefillShared& shared, int place, int group) {
  constexpr int kRowUnits = kHeadDim / 8;  // of 16 bytes
  const PartRows rows_of(layer.heads / layer.kv_heads);
  const int thread = threadIdx.x % kWarpgroup, unit = thread % kRowUnits;
#pragma unroll 1
  for (int r = thread / kRowUnits; r < kGroupRows; r += kWarpgroup / kRowUnits) {
    const int row = part.first + group * kGroupRows + r;
    copy_unit_async(
        unit_of(tiles.queries[place][group][unit / 8], r, unit % 8),
        qkv + rows_of.begin_of<kHeadDim>(part, row, layer.heads + 2 * layer.kv_heads) + 8 * unit,
        row < part.tokens * rows_of.queries);
  }
  arrive_after_copies(&shared.queries_here[place][group]);
}

// All parts of the block, but for the queries of the first, which those bring who multiply.
// cache_map: of a cache in bf16, as rows of one token and head.
template <int kHeadDim, class Kv>
__device__ void load_parts(const CUtensorMap& cache_map, const DeviceBatch& batch,
                           const AttentionLayer& layer, int parts_of_tile, const __nv_bfloat16* qkv,
                           PrefillTiles<kHeadDim>& tiles, PrefillShared& shared) {
  constexpr uint32_t kPageBytes = 2 * kPage * kHeadDim * sizeof(__nv_bfloat16);
  const int warp = threadIdx.x % kWarpgroup / kWarpSize, lane = threadIdx.x % kWarpSize;
  int begun = 0;  // pieces, of all parts
  for (int turn = 0; part_at(turn) < parts_of_tile * batch.tiles; ++turn) {
    const Part part = part_of(part_at(turn), parts_of_tile, batch, layer);
    const int place = turn % kQueryPlaces, pieces = pieces_of(part.end());
    const int32_t* table = batch.block_table + part.table;
    const int last_page = (part.end() - 1) / kPage;
    // Pages beyond the last are masked, but must be numbers.
    const auto row_of = [&](int piece) {
      const int64_t page = table[min(piece * kPages + warp, last_page)];
      return (page * 2 * layer.kv_heads + part.kv_head) * kPage;
    };
    const auto announce = [&] {
      wait(&shared.queries_read[place], turn / kQueryPlaces % 2 ^ 1);
      if (threadIdx.x == 0) {
        shared.part[place] = part;
        for (uint64_t& of_group : shared.queries_here[place]) arrive(&of_group);
      }
#pragma unroll 1
      for (int group = 0; turn > 0 && group < kPartGroups; ++group)
        load_queries(part, layer, qkv, tiles, shared, place, group);
    };
    if constexpr (sizeof(Kv) == 1) {
      PageCodes<kHeadDim> page;
      const auto load = [&](int piece) {
        page.load(static_cast<const Kv*>(layer.kv) + row_of(piece) * kHeadDim,
                  static_cast<int64_t>(layer.kv_heads) * kPage * kHeadDim, lane);
      };
      load(0);
      announce();
      for (int piece = 0; piece < pieces; ++piece, ++begun) {
        const int stage = begun % kPrefillStages;
        wait(&shared.empty[stage], begun / kPrefillStages % 2 ^ 1);
        page.store(tiles.ring[stage], warp, lane);
        publish_to_async();
        __syncwarp();
        if (lane == 0) arrive(&shared.full[stage]);
        if (piece + 1 < pieces) load(piece + 1);
      }
    } else {
      auto row = static_cast<int>(row_of(0));
      announce();
      // All of the warp waits: lanes that ran ahead of the one that copies would hold it up at the
      // next barrier.
      for (int piece = 0; piece < pieces; ++piece, ++begun) {
        const int stage = begun % kPrefillStages;
        PieceTiles<kHeadDim>& to = tiles.ring[stage];
        uint64_t* const full = &shared.full[stage];
        wait(&shared.empty[stage], begun / kPrefillStages % 2 ^ 1);
        if (lane == 0) {
          arrive_expecting(full, kPageBytes);
          for (int atom = 0; atom < PieceTiles<kHeadDim>::kAtoms; ++atom) {
            copy_tile(to.keys[atom] + warp * kPage * kAtomBytes, &cache_map, 0, row, atom, full);
            copy_tile(to.values[atom] + warp * kPage * kAtomBytes, &cache_map, 0,
                      row + layer.kv_heads * kPage, atom, full);
          }
        }
        __syncwarp();
        if (piece + 1 < pieces) row = static_cast<int>(row_of(piece + 1));
      }
    }
  }
  commit_copies();
  wait_for_copies(0);  // no thread ends before its copies
}

}  // namespace narrow::ops::cuda
