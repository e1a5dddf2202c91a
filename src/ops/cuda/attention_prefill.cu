// Attention of runs of rows over the paged cache: a block takes kPrefillRows tokens of one sequence
// and the heads that share a key/value head, 64 of these rows a warpgroup, and walks the pieces of
// the keys. Producer warps, one for each page of a piece, keep a ring of pieces filled: by the copy
// engine, or, of a cache in e4m3, by hand. Scores and weighted values are products of wgmma: those
// of a piece's scores and of the values before it go on together, and the piece is weighed while
// the values are.
#include "ops/cuda/attention.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kConsumers = 2;
constexpr int kGroupRows = 64;  // (token, head) of a warpgroup
constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
constexpr int kStages = 4;

// Tiles of 64 dims in the 128-byte swizzle, one behind the other.
template <int kHeadDim>
struct Piece {
  static constexpr int kAtoms = kHeadDim / 64;
  uint8_t keys[kAtoms][kDecodeChunk * kAtomBytes], values[kAtoms][kDecodeChunk * kAtomBytes];
};

template <int kHeadDim>
struct Memory {
  Piece<kHeadDim> ring[kStages];
  uint8_t queries[kConsumers][kHeadDim / 64][kGroupRows * kAtomBytes];
};

// A row and a unit of 16 bytes in a tile.
__device__ inline uint4* unit_of(uint8_t* tile, int row, int unit) {
  return reinterpret_cast<uint4*>(tile + row * kAtomBytes + (unit ^ (row % 8)) * 16);
}

// The keys and values of a page in e4m3, as one warp holds them: units of sixteen codes.
template <int kHeadDim>
struct Page {
  static constexpr int kUnits = kPage * kHeadDim / 16 / kWarpSize;  // of a lane
  uint4 keys[kUnits], values[kUnits];

  __device__ void load(const e4m3_t* page_keys, int64_t to_values, int lane) {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const e4m3_t* unit = page_keys + (i * kWarpSize + lane) * 16;
      keys[i] = load_streaming(unit);
      values[i] = load_streaming(unit + to_values);
    }
  }
  __device__ static void store(const uint4& codes, uint8_t (*tiles)[kDecodeChunk * kAtomBytes],
                               int token, int unit) {
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t a = words[2 * half], b = words[2 * half + 1];
      *unit_of(tiles[unit / 4], token, 2 * (unit % 4) + half) =
          make_uint4(widen_pair(a), widen_pair(a >> 16), widen_pair(b), widen_pair(b >> 16));
    }
  }
  __device__ void store(Piece<kHeadDim>& piece, int page, int lane) const {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int at = i * kWarpSize + lane;
      const int token = page * kPage + at / (kHeadDim / 16), unit = at % (kHeadDim / 16);
      store(keys[i], piece.keys, token, unit);
      store(values[i], piece.values, token, unit);
    }
  }
};

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_attention_kernel(const __grid_constant__ CUtensorMap cache_map, DeviceBatch batch,
                             AttentionLayer layer, const bf16_t* qkv, bf16_t* out) {
  constexpr int kAtoms = kHeadDim / 64;
  constexpr bool kCodes = sizeof(Kv) == 1;
  constexpr uint32_t kPageBytes = 2 * kPage * kHeadDim * sizeof(bf16_t);  // keys and values
  extern __shared__ uint8_t raw[];
  __shared__ uint64_t full[kStages], empty[kStages];
  auto& memory = *reinterpret_cast<Memory<kHeadDim>*>(raw + to_first_tile(raw));
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x % layer.kv_heads, part = blockIdx.x / layer.kv_heads;
  // Long tiles first: the last ones to start are short.
  const int tile = batch.tiles - 1 - static_cast<int>(blockIdx.y);
  if (threadIdx.x < kStages) {
    init_barrier(&full[threadIdx.x], kPages);
    init_barrier(&empty[threadIdx.x], kConsumers * 4);  // warps
  }
  publish_barriers();
  if (!kCodes && threadIdx.x == 0) prefetch_map(&cache_map);
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row0 = batch.tile_row[tile], tokens = batch.tile_rows[tile];
  const int visible0 = batch.tile_visible[tile], end = visible0 + tokens - 1;
  const int pieces = pieces_of(end);
  const int warp = threadIdx.x % kWarpgroup / kWarpSize, lane = threadIdx.x % kWarpSize;

  if (threadIdx.x < kWarpgroup) {
    give_up_registers<kCodes ? 72 : 40>();
    const int32_t* table = batch.block_table + batch.tile_table[tile];
    const int last_page = (end - 1) / kPage;
    // Pages beyond the last are masked, but must be numbers.
    const auto row_of = [&](int piece) {
      const int64_t page = table[min(piece * kPages + warp, last_page)];
      return (page * 2 * layer.kv_heads + kv_head) * kPage;
    };
    if constexpr (kCodes) {
      Page<kHeadDim> page;
      const auto load = [&](int piece) {
        page.load(static_cast<const Kv*>(layer.kv) + row_of(piece) * kHeadDim,
                  static_cast<int64_t>(layer.kv_heads) * kPage * kHeadDim, lane);
      };
      load(0);
      for (int piece = 0; piece < pieces; ++piece) {
        const int stage = piece % kStages;
        wait(&empty[stage], piece / kStages % 2 ^ 1);
        page.store(memory.ring[stage], warp, lane);
        publish_to_async();
        __syncwarp();
        if (lane == 0) arrive(&full[stage]);
        if (piece + 1 < pieces) load(piece + 1);
      }
    } else if (lane == 0) {
      for (int piece = 0; piece < pieces; ++piece) {
        const auto row = static_cast<int>(row_of(piece));
        const int stage = piece % kStages;
        wait(&empty[stage], piece / kStages % 2 ^ 1);
        arrive_expecting(&full[stage], kPageBytes);
        for (int atom = 0; atom < kAtoms; ++atom) {
          copy_tile(memory.ring[stage].keys[atom] + warp * kPage * kAtomBytes, &cache_map, 0, row,
                    atom, &full[stage]);
          copy_tile(memory.ring[stage].values[atom] + warp * kPage * kAtomBytes, &cache_map, 0,
                    row + layer.kv_heads * kPage, atom, &full[stage]);
        }
      }
    }
    return;
  }

  take_registers<kCodes ? 216 : 232>();
  const int group = warpgroup() - 1, thread = threadIdx.x % kWarpgroup;
  const int g = lane / 4, t = lane % 4;
  const int group_row0 = (part * kConsumers + group) * kGroupRows;
  const int all_rows = tokens * queries;
  const bool works = group_row0 < all_rows;
  // Row r of the group is a token of the tile and a head; beyond the last: its values, not stored.
  const auto token_of = [&](int r) { return min((group_row0 + r) / queries, tokens - 1); };
  const auto head_of = [&](int r) { return kv_head * queries + (group_row0 + r) % queries; };
  if (works) {
    constexpr int kUnits = kGroupRows * kHeadDim / 8 / kWarpgroup;  // of a thread
    const auto row_of = [&](int i) { return (i * kWarpgroup + thread) / (kHeadDim / 8); };
    const int unit = thread % (kHeadDim / 8);
    uint4 loaded[kUnits];
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int r = row_of(i);
      loaded[i] = uint4{};
      if (group_row0 + r < all_rows)
        loaded[i] = *reinterpret_cast<const uint4*>(
            qkv +
            (static_cast<int64_t>(row0 + token_of(r)) * (layer.heads + 2 * layer.kv_heads) +
             head_of(r)) *
                kHeadDim +
            8 * unit);
    }
#pragma unroll
    for (int i = 0; i < kUnits; ++i)
      *unit_of(memory.queries[group][unit / 8], row_of(i), unit % 8) = loaded[i];
    publish_to_async();
  }
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");

  const int rows_of_lane[2] = {16 * warp + g, 16 * warp + g + 8};
  const int visible[2] = {visible0 + token_of(rows_of_lane[0]),
                          visible0 + token_of(rows_of_lane[1])};
  const int seen_by_all = visible0 + token_of(0), seen_by_any = visible0 + token_of(kGroupRows - 1);
  const float scale = layer.scale * kLog2E;
  Joined joined[2];
  float value[kHeadDim / 2];
#pragma unroll
  for (float& v : value) v = 0;
  // Scores of a piece, as PageScores of its pages.
  using Scores = float[kDecodeChunk / 2];
  const auto arrived = [&](int piece) {
    wait(&full[piece % kStages], piece / kStages % 2);
    const int first = piece * kDecodeChunk;
    if (end >= first + kDecodeChunk) return;
    // What lies beyond the end may be another sequence's, or no number at all; a weight of zero
    // would not hide that.
    for (int i = threadIdx.x - kWarpgroup; i < kDecodeChunk * kHeadDim / 8;
         i += kConsumers * kWarpgroup) {
      const int token = i / (kHeadDim / 8), unit = i % (kHeadDim / 8);
      if (first + token >= end)
        *unit_of(memory.ring[piece % kStages].values[unit / 8], token, unit % 8) = uint4{};
    }
    publish_to_async();
    asm volatile("bar.sync %0, %1;" ::"n"(kConsumers + 1), "n"(kConsumers * kWarpgroup) : "memory");
  };
  const auto release = [&](int piece) {
    __syncwarp();
    if (lane == 0) arrive(&empty[piece % kStages]);
  };
  const uint32_t queries_low = tile_descriptor_low(memory.queries[group][0]);
  const uint32_t keys_low = tile_descriptor_low(memory.ring[0].keys[0]);
  const auto start_scores = [&](int piece, Scores& scores) {
    static_assert(kGroupRows == kDecodeChunk);
    constexpr uint32_t kTile = kGroupRows * kAtomBytes / 16, kStage = sizeof(Piece<kHeadDim>) / 16;
    const uint32_t keys = keys_low + piece % kStages * kStage;
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s)
      wgmma<MmaType::bf16, kDecodeChunk>(
          scores, descriptor_from_low(queries_low + s / 4 * kTile + 2 * (s % 4)),
          descriptor_from_low(keys + s / 4 * kTile + 2 * (s % 4)), s > 0);
    wgmma_commit();
  };
  // Scores of a piece become weights, and the piece is taken into `joined`.
  const auto weigh = [&](int piece, Scores& scores, Joined::Shares(&shares)[2]) {
    const int first = piece * kDecodeChunk;
    if (first + kDecodeChunk > seen_by_all) {
#pragma unroll
      for (int i = 0; i < kDecodeChunk / 2; ++i)
        scores[i] = masked(scores[i], first + 8 * (i / 4) + 2 * t + (i & 1) < visible[i % 4 >> 1]);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r)
      shares[r] = weigh_row(reinterpret_cast<PageScores(&)[kPages]>(scores), r, scale, joined[r]);
  };
  // Called once the values before are done: their operands are these registers.
  const auto pack = [&](Scores& scores, uint32_t(&weights)[kPages][4]) {
#pragma unroll
    for (int i = 0; i < kDecodeChunk / 2; ++i) keep(scores[i]);
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const uint4 w = pack_weights(reinterpret_cast<const PageScores(&)[kPages]>(scores)[page]);
      weights[page][0] = w.x, weights[page][1] = w.y, weights[page][2] = w.z,
      weights[page][3] = w.w;
    }
  };
  const auto start_values = [&](int piece, const uint32_t(&weights)[kPages][4],
                                float(&weighted)[kHeadDim / 2]) {
    const Piece<kHeadDim>& at = memory.ring[piece % kStages];
    const uint64_t values = transposed_tile(at.values[0], sizeof(at.values[0]));
    wgmma_fence();
#pragma unroll
    for (int page = 0; page < kPages; ++page)
      wgmma_transposed<kHeadDim>(weighted, weights[page], values + page * (kPage * kAtomBytes / 16),
                                 page > 0);
    wgmma_commit();
  };
  // Mostly no row has met a larger score, and what there is stays as it is.
  const auto add_values = [&](const Joined::Shares(&shares)[2], float(&weighted)[kHeadDim / 2]) {
    if (!__all_sync(0xffffffffu, shares[0].before == 1 && shares[1].before == 1)) {
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) value[i] *= shares[i % 4 / 2].before;
    }
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) {
      keep(weighted[i]);
      value[i] = fmaf(weighted[i], shares[i % 4 / 2].piece, value[i]);
    }
  };

  const int mine = works ? min(pieces, pieces_of(seen_by_any)) : 0;
  if (mine > 0) {
    Scores scores;
    uint32_t weights[kPages][4];
    Joined::Shares shares[2];
    float weighted[kHeadDim / 2];
    arrived(0);
    start_scores(0, scores);
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < kDecodeChunk / 2; ++i) keep(scores[i]);
    weigh(0, scores, shares);
    pack(scores, weights);
    for (int piece = 1; piece < mine; ++piece) {
      arrived(piece);
      start_scores(piece, scores);
      start_values(piece - 1, weights, weighted);
      wgmma_wait<1>();
#pragma unroll
      for (int i = 0; i < kDecodeChunk / 2; ++i) keep(scores[i]);
      Joined::Shares next[2];
      weigh(piece, scores, next);
      wgmma_wait<0>();
      release(piece - 1);
      add_values(shares, weighted);
      pack(scores, weights);
      shares[0] = next[0], shares[1] = next[1];
    }
    start_values(mine - 1, weights, weighted);
    wgmma_wait<0>();
    release(mine - 1);
    add_values(shares, weighted);
  }
  // What only the other group sees.
  for (int piece = mine; piece < pieces; ++piece) {
    arrived(piece);
    release(piece);
  }

  if (!works) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (group_row0 + rows_of_lane[r] >= all_rows) continue;
    bf16_t* to = out + (static_cast<int64_t>(row0 + token_of(rows_of_lane[r])) * layer.heads +
                        head_of(rows_of_lane[r])) *
                           kHeadDim;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
      *reinterpret_cast<uint32_t*>(to + 8 * n + 2 * t) =
          pack_bf16(__fdiv_rn(value[4 * n + 2 * r], joined[r].sum),
                    __fdiv_rn(value[4 * n + 2 * r + 1], joined[r].sum));
  }
}

template <int kHeadDim, class Kv>
void launch_prefill(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(Memory<kHeadDim>) + 1024;
  static const bool allowed = [] {
    allow_shared_memory(prefill_attention_kernel<kHeadDim, Kv>, kBytes);
    return true;
  }();
  (void)allowed;
  const int queries = layer.heads / layer.kv_heads;
  const int parts = div_up(kPrefillRows * queries, kConsumers * kGroupRows);
  CUtensorMap map{};
  if (!layer.e4m3)  // the cache as rows of one token and head
    map = atoms_map(layer.kv, TensorMapType::bf16, kHeadDim,
                    layer.blocks * 2 * layer.kv_heads * kPage,
                    kHeadDim * static_cast<int64_t>(sizeof(bf16_t)), kPage, 1);
  launch(prefill_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads * parts), static_cast<unsigned>(batch.tiles)),
         kThreads, kBytes, stream, map, batch, layer, qkv, out);
}

}  // namespace

void prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                       bf16_t* out, cudaStream_t stream) {
  if (batch.tiles == 0) return;
  const auto run = layer.head_dim == 128
                       ? (layer.e4m3 ? launch_prefill<128, e4m3_t> : launch_prefill<128, bf16_t>)
                       : (layer.e4m3 ? launch_prefill<64, e4m3_t> : launch_prefill<64, bf16_t>);
  run(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
