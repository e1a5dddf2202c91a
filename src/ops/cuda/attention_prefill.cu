// Attention of runs of rows over the paged cache: a block takes kPrefillRows tokens of one sequence
// and the heads that share a key/value head, 64 of these rows a warpgroup, and walks the pieces of
// the keys. Producer warps, one for each page of a piece, keep a ring of pieces filled: by the copy
// engine, or, of a cache in e4m3, by hand. Scores and weighted values are products of wgmma: those
// of a piece's scores and of the values before it go on together, and the piece is weighed while
// the values are.
#include <type_traits>

#include "ops/cuda/cache_tiles.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/portable.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kConsumers = 2;
constexpr int kGroupRows = 64;  // (token, head) of a warpgroup
constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
constexpr int kStages = 4;

template <int kHeadDim>
struct Memory {
  PieceTiles<kHeadDim> ring[kStages];
  uint8_t queries[kConsumers][kHeadDim / 64][kGroupRows * kAtomBytes];
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
      PageCodes<kHeadDim> page;
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
  const int group = warpgroup() - 1;
  const int g = lane / 4, t = lane % 4;
  const int group_row0 = (part * kConsumers + group) * kGroupRows;
  const int all_rows = tokens * queries;
  const bool works = group_row0 < all_rows;
  // Row r of the group is a token of the tile and a head; beyond the last: zeros, not stored. Rows
  // are few enough for a division by multiplication.
  static_assert(kPrefillRows * kMostQueriesPerKv * kMostQueriesPerKv < 1 << 16);
  const int per_query = ((1 << 16) + queries - 1) / queries;
  const auto token_of = [&](int r) { return (group_row0 + r) * per_query >> 16; };
  // Where row r begins in a matrix of `heads` heads a token.
  const auto begin_of = [&](int r, int heads) {
    const int token = token_of(r), head = group_row0 + r - token * queries;
    return (static_cast<int64_t>(row0 + min(token, tokens - 1)) * heads + kv_head * queries +
            head) *
           kHeadDim;
  };
  const auto sync_group = [&] { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); };
  // A thread's units of 16 bytes of the group's rows, in rows of its warp.
  constexpr int kRowUnits = kHeadDim / 8, kUnits = kGroupRows * kRowUnits / kWarpgroup;
  const int unit = lane % kRowUnits;
  const auto row_of = [&](int i) {
    return 16 * warp + i * (kWarpSize / kRowUnits) + lane / kRowUnits;
  };
  if (works) {
    // Code that a block runs once comes from far away, at a price for every few instructions: so
    // this loop is not unrolled.
#pragma unroll 1
    for (int i = 0; i < kUnits; ++i) {
      const int r = row_of(i);
      copy_unit_async(unit_of(memory.queries[group][unit / 8], r, unit % 8),
                      qkv + begin_of(r, layer.heads + 2 * layer.kv_heads) + 8 * unit,
                      group_row0 + r < all_rows);
    }
    commit_copies();
    wait_for_copies(0);
    publish_to_async();
  }
  sync_group();

  const int rows_of_lane[2] = {16 * warp + g, 16 * warp + g + 8};
  const auto visible_of = [&](int r) { return min(visible0 + token_of(r), end); };
  const int visible[2] = {visible_of(rows_of_lane[0]), visible_of(rows_of_lane[1])};
  const int seen_by_all = visible_of(0), seen_by_any = visible_of(kGroupRows - 1);
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
    int first_unit = static_cast<int>(threadIdx.x) - kWarpgroup;
    asm volatile("" : "+r"(first_unit));  // or addresses take registers of the loop around it
#pragma unroll 1
    for (int i = first_unit; i < kDecodeChunk * kRowUnits; i += kConsumers * kWarpgroup) {
      const int token = i / kRowUnits, of_token = i % kRowUnits;
      if (first + token >= end)
        *unit_of(memory.ring[piece % kStages].values[of_token / 8], token, of_token % 8) = uint4{};
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
    constexpr uint32_t kTile = kGroupRows * kAtomBytes / 16,
                       kStage = sizeof(PieceTiles<kHeadDim>) / 16;
    const uint32_t keys = keys_low + piece % kStages * kStage;
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s)
      wgmma<MmaType::bf16, kDecodeChunk>(
          scores, descriptor_from_low(queries_low + s / 4 * kTile + 2 * (s % 4)),
          descriptor_from_low(keys + s / 4 * kTile + 2 * (s % 4)), s > 0);
    wgmma_commit();
  };
  // Rows see none of what lies behind them.
  const auto mask = [&](int piece, Scores& scores) {
    const int first = piece * kDecodeChunk + 2 * t;
#pragma unroll
    for (int i = 0; i < kDecodeChunk / 2; ++i)
      scores[i] = masked(scores[i], first + 8 * (i / 4) + (i & 1) < visible[i % 4 >> 1]);
  };
  const auto pages_of = [](Scores& scores) -> PageScores(&)[kPages] {
    return reinterpret_cast<PageScores(&)[kPages]>(scores);
  };
  // Scores of a piece become weights.
  const auto weigh = [&](Scores& scores, Joined::Shares(&shares)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) shares[r] = weigh_row(pages_of(scores), r, scale, joined[r]);
  };
  // Called once the values before are done: their operands are these registers.
  const auto pack = [&](Scores& scores, uint32_t(&weights)[kPages][4]) {
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const uint4 w = pack_weights(pages_of(scores)[page]);
      weights[page][0] = w.x, weights[page][1] = w.y, weights[page][2] = w.z,
      weights[page][3] = w.w;
    }
  };
  const auto start_values = [&](int piece, const uint32_t(&weights)[kPages][4],
                                float(&weighted)[kHeadDim / 2]) {
    const PieceTiles<kHeadDim>& at = memory.ring[piece % kStages];
    const uint64_t values = transposed_tile(at.values[0], sizeof(at.values[0]));
    wgmma_fence();
#pragma unroll
    for (int page = 0; page < kPages; ++page)
      wgmma_transposed<kHeadDim>(weighted, weights[page], values + page * (kPage * kAtomBytes / 16),
                                 page > 0);
    wgmma_commit();
  };
  // Values so far become relative to the reference that a piece brings; mostly it is the same.
  const auto scale_values = [&](const Joined::Shares(&shares)[2]) {
    if (!__all_sync(0xffffffffu, shares[0].before == 1 && shares[1].before == 1)) {
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) value[i] *= shares[i % 4 / 2].before;
    }
  };
  const auto add_values = [&](const Joined::Shares(&shares)[2], float(&weighted)[kHeadDim / 2]) {
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) {
      keep(weighted[i]);
      value[i] = fmaf(weighted[i], shares[i % 4 / 2].piece, value[i]);
    }
  };
  const auto add_sums = [&](Scores& weights, const Joined::Shares(&shares)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) add_weights(pages_of(weights), r, shares[r], joined[r]);
  };

  const int mine = works ? min(pieces, pieces_of(seen_by_any)) : 0;
  int piece = 0;
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
    mask(0, scores);
    weigh(scores, shares);
    add_sums(scores, shares);
    pack(scores, weights);
    const auto step = [&](auto is_whole) {
      if constexpr (decltype(is_whole)::value) {
        wait(&full[piece % kStages], piece / kStages % 2);
      } else {
        arrived(piece);
      }
      start_scores(piece, scores);
      start_values(piece - 1, weights, weighted);
      wgmma_wait<1>();
#pragma unroll
      for (int i = 0; i < kDecodeChunk / 2; ++i) keep(scores[i]);
      if constexpr (!decltype(is_whole)::value) mask(piece, scores);
      Joined::Shares next[2];
      weigh(scores, next);
      // The branch in it keeps the wait and the sums behind the powers of two. In one run of
      // instructions ptxas waits first, and takes sums in between, each of which waits for a power.
      scale_values(shares);
      wgmma_wait<0>();
      release(piece - 1);
      add_values(shares, weighted);
      add_sums(scores, next);
      pack(scores, weights);
      shares[0] = next[0], shares[1] = next[1];
    };
    const int whole = min(mine, seen_by_all / kDecodeChunk);  // pieces that all rows see all of
    for (piece = 1; piece < whole; ++piece) step(std::true_type());
    for (; piece < mine; ++piece) step(std::false_type());
    start_values(mine - 1, weights, weighted);
    scale_values(shares);
    wgmma_wait<0>();
    release(mine - 1);
    add_values(shares, weighted);
  }
  // What only the other group sees.
  for (piece = mine; piece < pieces; ++piece) {
    arrived(piece);
    release(piece);
  }

  if (!works) return;
  sync_group();  // all are done with the queries, whose memory the result goes through
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Quotient over_sum(joined[r].sum);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
      reinterpret_cast<uint32_t*>(
          unit_of(memory.queries[group][n / 8], rows_of_lane[r], n % 8))[t] =
          pack_bf16(over_sum(value[4 * n + 2 * r]), over_sum(value[4 * n + 2 * r + 1]));
  }
  __syncwarp();
#pragma unroll 2
  for (int i = 0; i < kUnits; ++i) {
    const int r = row_of(i);
    if (group_row0 + r < all_rows)
      *reinterpret_cast<uint4*>(out + begin_of(r, layer.heads) + 8 * unit) =
          *unit_of(memory.queries[group][unit / 8], r, unit % 8);
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
