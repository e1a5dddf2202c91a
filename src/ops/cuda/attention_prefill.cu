// Attention of runs of rows over the paged cache. Blocks stay and take part after part
// (prefill_parts.cuh), 64 rows of (token, head) a warpgroup, and walk the pieces of each part's
// keys, which a warpgroup of its own brings (prefill_loads.cuh). Scores and weighted values are
// products of wgmma: those of a piece's scores and of the values before it go on together, and the
// piece is weighed while the values are.
#include <algorithm>
#include <type_traits>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/prefill_loads.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kThreads = (kPartGroups + 1) * kWarpgroup;

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_attention_kernel(const __grid_constant__ CUtensorMap cache_map, DeviceBatch batch,
                             AttentionLayer layer, int parts_of_tile, const bf16_t* qkv,
                             bf16_t* out) {
  constexpr bool kCodes = sizeof(Kv) == 1;
  auto* const raw = reinterpret_cast<uint8_t*>(block_memory());
  __shared__ PrefillShared shared;
  auto& memory = *reinterpret_cast<PrefillTiles<kHeadDim>*>(raw + to_first_tile(raw));
  const int queries = layer.heads / layer.kv_heads;
  const PartRows rows_of(queries);
  const int parts = parts_of_tile * batch.tiles;
  init_barriers(shared);
  if (!kCodes && threadIdx.x == 0) prefetch_map(&cache_map);
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int warp = threadIdx.x % kWarpgroup / kWarpSize, lane = threadIdx.x % kWarpSize;

  if (threadIdx.x < kWarpgroup) {
    give_up_registers<kCodes ? 72 : 40>();
    load_parts<kHeadDim, Kv>(cache_map, batch, layer, parts_of_tile, qkv, memory, shared);
    return;
  }

  take_registers<kCodes ? 216 : 232>();
  const int group = warpgroup() - 1;
  constexpr int kRowUnits = kHeadDim / 8;  // of 16 bytes
  load_queries(part_of(part_at(0), parts_of_tile, batch, layer), layer, qkv, memory, shared, 0,
               group);
  const int g = lane / 4, t = lane % 4;
  const auto sync_group = [&] { sync_threads<kWarpgroup>(group + 1); };
  const float scale = layer.scale * kLog2E;
  int done = 0;  // pieces, of the parts before
  for (int turn = 0; part_at(turn) < parts; ++turn) {
    const int place = turn % kQueryPlaces;
    wait(&shared.queries_here[place][group], turn / kQueryPlaces % 2);
    publish_to_async();
    const Part& part = shared.part[place];
    const int end = part.end(), pieces = pieces_of(end);
    const int group_row0 = part.first + group * kGroupRows;
    const int all_rows = part.tokens * queries;
    const bool works = group_row0 < all_rows;

    const int rows_of_lane[2] = {16 * warp + g, 16 * warp + g + 8};
    const auto visible_of = [&](int r) {
      return min(part.visible0 + rows_of.token_of(group_row0 + r), end);
    };
    const int visible[2] = {visible_of(rows_of_lane[0]), visible_of(rows_of_lane[1])};
    const int seen_by_all = visible_of(0), seen_by_any = visible_of(kGroupRows - 1);
    Joined joined[2];
    float value[kHeadDim / 2];
#pragma unroll
    for (float& v : value) v = 0;
    // Scores of a piece, as PageScores of its pages.
    using Scores = float[kDecodeChunk / 2];
    const auto stage_of = [&](int piece) { return (done + piece) % kPrefillStages; };
    const auto wait_for_piece = [&](int piece) {
      wait(&shared.full[stage_of(piece)], (done + piece) / kPrefillStages % 2);
    };
    const auto arrived = [&](int piece) {
      wait_for_piece(piece);
      const int first = piece * kDecodeChunk;
      if (end >= first + kDecodeChunk) return;
      // What lies beyond the end may be another sequence's, or no number at all; a weight of zero
      // would not hide that.
      int first_unit = static_cast<int>(threadIdx.x) - kWarpgroup;
      asm volatile("" : "+r"(first_unit));  // or addresses take registers of the loop around it
#pragma unroll 1
      for (int u = first_unit; u < kDecodeChunk * kRowUnits; u += kPartGroups * kWarpgroup) {
        const int token = u / kRowUnits, of_token = u % kRowUnits;
        if (first + token >= end)
          *unit_of(memory.ring[stage_of(piece)].values[of_token / 8], token, of_token % 8) =
              uint4{};
      }
      publish_to_async();
      sync_threads<kPartGroups * kWarpgroup>(kPartGroups + 1);
    };
    const auto release = [&](int piece) {
      __syncwarp();
      if (lane == 0) arrive(&shared.empty[stage_of(piece)]);
    };
    const uint32_t queries_low = tile_descriptor_low(memory.queries[place][group][0]);
    const uint32_t keys_low = tile_descriptor_low(memory.ring[0].keys[0]);
    const auto start_scores = [&](int piece, Scores& scores) {
      static_assert(kGroupRows == kDecodeChunk);
      constexpr uint32_t kTile = kGroupRows * kAtomBytes / 16,
                         kStage = sizeof(PieceTiles<kHeadDim>) / 16;
      const uint32_t keys = keys_low + stage_of(piece) * kStage;
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
      const PieceTiles<kHeadDim>& at = memory.ring[stage_of(piece)];
      const uint64_t values = transposed_tile(at.values[0], sizeof(at.values[0]));
      wgmma_fence();
#pragma unroll
      for (int page = 0; page < kPages; ++page)
        wgmma_transposed<kHeadDim>(weighted, weights[page],
                                   values + page * (kPage * kAtomBytes / 16), page > 0);
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
          wait_for_piece(piece);
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
        // instructions ptxas waits first, and takes sums in between, each of which waits for a
        // power.
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

    done += pieces;
    if (works) {
      sync_group();  // all are done with the queries, whose memory the result goes through
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const Quotient over_sum(joined[r].sum);
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; ++n)
          reinterpret_cast<uint32_t*>(
              unit_of(memory.queries[place][group][n / 8], rows_of_lane[r], n % 8))[t] =
              pack_bf16(over_sum(value[4 * n + 2 * r]), over_sum(value[4 * n + 2 * r + 1]));
      }
      __syncwarp();
      // Units of 16 bytes of the warp's rows.
      const int unit = lane % kRowUnits;
#pragma unroll 2
      for (int r = 16 * warp + lane / kRowUnits; r < 16 * warp + 16; r += kWarpSize / kRowUnits)
        if (group_row0 + r < all_rows)
          *reinterpret_cast<uint4*>(
              out + rows_of.begin_of<kHeadDim>(part, group_row0 + r, layer.heads) + 8 * unit) =
              *unit_of(memory.queries[place][group][unit / 8], r, unit % 8);
    }
    __syncwarp();
    if (lane == 0) arrive(&shared.queries_read[place]);
  }
}

template <int kHeadDim, class Kv>
void launch_prefill(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(PrefillTiles<kHeadDim>) + 1024;
  static const bool allowed = [] {
    allow_shared_memory(prefill_attention_kernel<kHeadDim, Kv>, kBytes);
    return true;
  }();
  (void)allowed;
  const int queries = layer.heads / layer.kv_heads;
  const int parts_of_tile = layer.kv_heads * div_up(kPrefillRows * queries, kPartRows);
  CUtensorMap map{};
  if (!layer.e4m3)  // the cache as rows of one token and head
    map = atoms_map(layer.kv, TensorMapType::bf16, kHeadDim,
                    layer.blocks * 2 * layer.kv_heads * kPage,
                    kHeadDim * static_cast<int64_t>(sizeof(bf16_t)), kPage, 1);
  launch(prefill_attention_kernel<kHeadDim, Kv>,
         static_cast<unsigned>(std::min(parts_of_tile * batch.tiles, processors())), kThreads,
         kBytes, stream, map, batch, layer, parts_of_tile, qkv, out);
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
