// Attention of runs of rows over the paged cache without wgmma: a block takes kPrefillRows tokens
// of one sequence and the heads that share a key/value head, sixteen of these rows a warp, and
// walks the pieces of the keys with the next one under way. The arithmetic of a piece is
// attention.cuh's, so each row has the bits that decode_attention would give it.
#include "ops/cuda/attention.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/portable.cuh"
#include "ops/cuda/portable.h"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kBlockRows = kWarps * kMmaRows;  // (token, head)

// Keys and values as rows of units of 16 bytes. A unit's place is exchanged within its row so that
// the reads below touch each bank once: keys by quads over four rows, values by eight rows.
template <int kHeadDim>
struct Piece {
  static constexpr int kUnits = kHeadDim / 8;
  uint4 keys[kDecodeChunk][kUnits], values[kDecodeChunk][kUnits];
  __device__ static int key_unit(int token, int unit) { return unit ^ (token & 3) << 1; }
  __device__ static int value_unit(int token, int unit) { return unit ^ (token & 7); }
};

// Sixteen tokens by sixteen dims of values as two B operands: x, y for the first eight dims, z, w
// for the others.
__device__ inline uint4 load_transposed(const void* unit) {
  uint4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(unit)))
               : "memory");
  return result;
}

template <int kHeadDim>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    portable_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv,
                              bf16_t* out) {
  extern __shared__ uint4 memory[];
  auto* ring = reinterpret_cast<Piece<kHeadDim>*>(memory);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x % layer.kv_heads, part = blockIdx.x / layer.kv_heads;
  // Long tiles first: the last ones to start are short.
  const int tile = batch.tiles - 1 - static_cast<int>(blockIdx.y);
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row0 = batch.tile_row[tile], tokens = batch.tile_rows[tile];
  const int visible0 = batch.tile_visible[tile], all_rows = tokens * queries;
  const int first_row = part * kBlockRows;
  if (first_row >= all_rows) return;
  // What the block's last row sees.
  const int end = visible0 + (min(first_row + kBlockRows, all_rows) - 1) / queries;
  const int32_t* table = batch.block_table + batch.tile_table[tile];
  const int pieces = (end + kDecodeChunk - 1) / kDecodeChunk;

  const auto load_piece = [&](int piece) {
    Piece<kHeadDim>& to = ring[piece % 2];
    for (int i = threadIdx.x; i < kDecodeChunk * Piece<kHeadDim>::kUnits; i += blockDim.x) {
      const int token = i / Piece<kHeadDim>::kUnits, unit = i % Piece<kHeadDim>::kUnits;
      // What lies beyond the end may be another sequence's: zeros stand in for it.
      const int at = piece * kDecodeChunk + token;
      const bool there = at < end;
      const int64_t page = there ? table[at / kPage] : 0;
      const bf16_t* key = layer.kv +
                          ((page * 2 * layer.kv_heads + kv_head) * kPage + at % kPage) * kHeadDim +
                          8 * unit;
      copy_unit_async(&to.keys[token][to.key_unit(token, unit)], key, there);
      copy_unit_async(&to.values[token][to.value_unit(token, unit)],
                      key + static_cast<int64_t>(layer.kv_heads) * kPage * kHeadDim, there);
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
  float value[kHeadDim / 8][4] = {};
  for (int piece = 0; piece < pieces; ++piece) {
    if (piece + 1 < pieces) {
      load_piece(piece + 1);
      wait_for_copies(1);
    } else {
      wait_for_copies(0);
    }
    __syncthreads();
    const int first = piece * kDecodeChunk;
    const Piece<kHeadDim>& at = ring[piece % 2];
    if (works && first < seen_by_any) {
      const bool whole = first + kDecodeChunk <= seen_by_all;
      PageScores score[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        page_scores<kHeadDim>(
            q,
            [&](int half, int s) {
              const int token = page * kPage + 8 * half + g;
              const uint4& unit = at.keys[token][at.key_unit(token, 2 * s + t / 2)];
              return reinterpret_cast<const uint2*>(&unit)[t % 2];
            },
            score[page]);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int token = first + page * kPage + 8 * half + 2 * t + (c & 1);
            score[page][half][c] =
                scaled(score[page][half][c], scale, whole || token < visible[c >> 1]);
          }
      }
      Joined::Shares shares[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float largest = largest_of(score[0], r);
#pragma unroll
        for (int page = 1; page < kPages; ++page)
          largest = fmaxf(largest, largest_of(score[page], r));
        largest = quad_max(largest);
        float sum = to_weights(score[0], r, largest);
#pragma unroll
        for (int page = 1; page < kPages; ++page) sum += to_weights(score[page], r, largest);
        shares[r] = joined[r].join(largest, quad_sum(sum));
      }
      uint4 weights[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) weights[page] = pack_weights(score[page]);
#pragma unroll
      for (int d = 0; d < kHeadDim / 16; ++d) {
        float weighted[2][4] = {};
#pragma unroll
        for (int page = 0; page < kPages; ++page) {
          const int token = page * kPage + lane % 16;
          const uint4 v =
              load_transposed(&at.values[token][at.value_unit(token, 2 * d + lane / 16)]);
          const uint4 w = weights[page];
          mma_bf16(weighted[0], w.x, w.y, w.z, w.w, v.x, v.y);
          mma_bf16(weighted[1], w.x, w.y, w.z, w.w, v.z, v.w);
        }
#pragma unroll
        for (int j = 0; j < 2; ++j)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            float& total = value[2 * d + j][c];
            total = fmaf(weighted[j][c], shares[c >> 1].piece, total * shares[c >> 1].before);
          }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows[r] >= all_rows) continue;
    bf16_t* to =
        out + (static_cast<int64_t>(row0 + token_of(rows[r])) * layer.heads + head_of(rows[r])) *
                  kHeadDim;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
      *reinterpret_cast<uint32_t*>(to + 8 * n + 2 * t) = pack_bf16(
          __fdiv_rn(value[n][2 * r], joined[r].sum), __fdiv_rn(value[n][2 * r + 1], joined[r].sum));
  }
}

template <int kHeadDim>
void launch_portable(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                     bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = 2 * sizeof(Piece<kHeadDim>);
  static const bool allowed = [] {
    allow_shared_memory(portable_attention_kernel<kHeadDim>, kBytes);
    return true;
  }();
  (void)allowed;
  const int queries = layer.heads / layer.kv_heads;
  const int parts = div_up(kPrefillRows * queries, kBlockRows);
  launch(portable_attention_kernel<kHeadDim>,
         dim3(static_cast<unsigned>(layer.kv_heads * parts), static_cast<unsigned>(batch.tiles)),
         kWarps * kWarpSize, kBytes, stream, batch, layer, qkv, out);
}

}  // namespace

void portable_prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                                const bf16_t* qkv, bf16_t* out, cudaStream_t stream) {
  if (batch.tiles == 0) return;
  if (layer.head_dim == 128) return launch_portable<128>(batch, layer, qkv, out, stream);
  launch_portable<64>(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
