// Attention of runs of rows over the paged cache without wgmma: a block takes kPrefillRows tokens
// of one sequence and the heads that share a key/value head, sixteen of these rows a warp, and
// walks the pieces of the keys with the next one under way. The arithmetic of a piece is
// attention.cuh's, so each row has the bits that decode_attention would give it.
#include "ops/cuda/cache_piece.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/portable.h"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kBlockRows = kWarps * kMmaRows;  // (token, head)

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    portable_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv,
                              bf16_t* out) {
  using Piece = CachePiece<kHeadDim, Kv>;
  constexpr int kOperands = kHeadDim / 32;  // of a quarter of the dims
  auto* ring = reinterpret_cast<Piece*>(block_memory());
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x % layer.kv_heads, part = blockIdx.x / layer.kv_heads;
  const auto tile = static_cast<int>(blockIdx.y);  // those that see most stand first
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row0 = batch.tile_row[tile], tokens = batch.tile_rows[tile];
  const int visible0 = batch.tile_visible[tile], all_rows = tokens * queries;
  const int first_row = part * kBlockRows;
  if (first_row >= all_rows) return;
  // What the block's last row sees.
  const int end = visible0 + (min(first_row + kBlockRows, all_rows) - 1) / queries;
  const int32_t* table = batch.block_table + batch.tile_table[tile];
  const int pieces = pieces_of(end);

  const PageCopies<kWarps * kWarpSize, kHeadDim, Kv> copies(layer.kv, layer.kv_heads, kv_head);
  const auto load_piece = [&](int piece) {
    for (int page = 0; page < kPages; ++page) {
      const int first = piece * kDecodeChunk + page * kPage;
      const int32_t block = first < end ? table[first / kPage] : 0;
      copies.start(false, shared_address(ring[piece % 2].keys), page, block, end - first);
      copies.start(true, shared_address(ring[piece % 2].values), page, block, end - first);
    }
    commit_copies();
  };
  load_piece(0);

  // Row r of the tile is a token and a head; beyond the last: the last token's, not stored.
  const int rows[2] = {first_row + warp * kMmaRows + g, first_row + warp * kMmaRows + g + 8};
  const bool works = first_row + warp * kMmaRows < all_rows;
  const auto token_of = [&](int r) { return min(r / queries, tokens - 1); };
  const auto head_of = [&](int r) { return kv_head * queries + r % queries; };
  Queries<kHeadDim> q;
  const auto query = [&](int r) {
    return r < all_rows ? qkv + (static_cast<int64_t>(row0 + token_of(r)) *
                                     (layer.heads + 2 * layer.kv_heads) +
                                 head_of(r)) *
                                    kHeadDim
                        : nullptr;
  };
  q.load(query(rows[0]), query(rows[1]), t);
  const int visible[2] = {visible0 + token_of(rows[0]), visible0 + token_of(rows[1])};
  const int seen_by_all = visible0 + token_of(first_row + warp * kMmaRows);
  const int seen_by_any = visible0 + token_of(first_row + warp * kMmaRows + kMmaRows - 1);

  const float scale = layer.scale * kLog2E;
  Joined joined[2];
  float value[4][kOperands][4] = {};
  for (int piece = 0; piece < pieces; ++piece) {
    if (piece + 1 < pieces) {
      load_piece(piece + 1);
      wait_for_copies(1);
    } else {
      wait_for_copies(0);
    }
    __syncthreads();
    const int first = piece * kDecodeChunk;
    const Piece& at = ring[piece % 2];
    if (works && first < seen_by_any) {
      const bool whole = first + kDecodeChunk <= seen_by_all;
      PageScores score[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        page_scores<kHeadDim>(
            q, [&](int half, int s) { return at.key(page * kPage + 8 * half + g, s, t); },
            score[page]);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int token = first + page * kPage + 8 * half + 2 * t + (c & 1);
            score[page][half][c] = masked(score[page][half][c], whole || token < visible[c >> 1]);
          }
      }
      Joined::Shares shares[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        shares[r] = weigh_row(score, r, scale, joined[r]);
        add_weights(score, r, shares[r], joined[r]);
      }
      uint4 weights[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) weights[page] = pack_weights(score[page]);
#pragma unroll
      for (int quarter = 0; quarter < 4; ++quarter) {
        float weighted[kOperands][4] = {};
#pragma unroll
        for (int page = 0; page < kPages; ++page) {
          uint2 v[kOperands];
          at.load_values(page, quarter, lane, v);
          const uint4 w = weights[page];
#pragma unroll
          for (int i = 0; i < kOperands; ++i)
            mma_bf16(weighted[i], w.x, w.y, w.z, w.w, v[i].x, v[i].y);
        }
#pragma unroll
        for (int i = 0; i < kOperands; ++i)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            float& total = value[quarter][i][c];
            total = fmaf(weighted[i][c], shares[c >> 1].piece, total * shares[c >> 1].before);
          }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows[r] >= all_rows) continue;
    const Quotient over_sum(joined[r].sum);
    bf16_t* to =
        out + (static_cast<int64_t>(row0 + token_of(rows[r])) * layer.heads + head_of(rows[r])) *
                  kHeadDim;
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter)
#pragma unroll
      for (int i = 0; i < kOperands; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          to[Piece::dim(quarter, i, 2 * t + c)] =
              __float2bfloat16_rn(over_sum(value[quarter][i][2 * r + c]));
  }
}

template <int kHeadDim, class Kv>
void launch_portable(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                     bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = 2 * sizeof(CachePiece<kHeadDim, Kv>);
  static const bool allowed = [] {
    allow_shared_memory(portable_attention_kernel<kHeadDim, Kv>, kBytes);
    return true;
  }();
  (void)allowed;
  const int queries = layer.heads / layer.kv_heads;
  const int parts = div_up(kPrefillRows * queries, kBlockRows);
  launch(portable_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads * parts), static_cast<unsigned>(batch.tiles)),
         kWarps * kWarpSize, kBytes, stream, batch, layer, qkv, out);
}

}  // namespace

void portable_prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                                const bf16_t* qkv, bf16_t* out, cudaStream_t stream) {
  if (batch.tiles == 0) return;
  const auto run = layer.head_dim == 128
                       ? (layer.e4m3 ? launch_portable<128, e4m3_t> : launch_portable<128, bf16_t>)
                       : (layer.e4m3 ? launch_portable<64, e4m3_t> : launch_portable<64, bf16_t>);
  run(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
