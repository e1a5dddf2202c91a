// Attention of runs of rows over the paged cache: a block takes kPrefillRows tokens of one sequence
// and up to eight heads' halves of them (sixteen tokens of one head a warp) of one key/value head,
// and walks the pieces of the keys with the next one under way.
#include <algorithm>

#include "ops/cuda/attention.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kMostWarps = 8;
constexpr int kLeastWarps = 4;  // where fewer have rows, the others help to load

// Keys and values of a piece as rows of 16-byte units. A unit's place is exchanged within its row
// so that the reads below touch each bank once: keys by quads over two rows, values by eight rows.
template <int kHeadDim>
struct Piece {
  static constexpr int kUnits = kHeadDim / 8;
  uint4 keys[kDecodeChunk][kUnits], values[kDecodeChunk][kUnits];
  __device__ static int key_unit(int token, int unit) { return unit ^ (token & 1) << 2; }
  __device__ static int value_unit(int token, int unit) { return unit ^ (token & 7); }
};

__device__ inline void copy_unit(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
}

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
__global__ void __launch_bounds__(kMostWarps* kWarpSize, 1)
    prefill_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv,
                             bf16_t* out) {
  extern __shared__ uint4 memory[];
  auto* ring = reinterpret_cast<Piece<kHeadDim>*>(memory);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x % layer.kv_heads, group = blockIdx.x / layer.kv_heads;
  // Long tiles first: the last ones to start are short.
  const int tile = batch.tiles - 1 - static_cast<int>(blockIdx.y);
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row0 = batch.tile_row[tile], tokens = batch.tile_rows ? batch.tile_rows[tile] : 1;
  const int visible0 = batch.tile_visible[tile], end = visible0 + tokens - 1;
  const int32_t* table = batch.block_table + batch.tile_table[tile];
  const int mma_row0 = (group * static_cast<int>(blockDim.x / kWarpSize) + warp) * kMmaRows;
  const int mma_rows = tokens * queries;
  const bool works = mma_row0 < mma_rows;
  // Of the lane's rows mma_row0 + g and + 8; tokens beyond the last see what the last sees.
  int token_of[2], head_of[2];
  for (int r = 0; r < 2; ++r) {
    const int row = mma_row0 + g + 8 * r;
    token_of[r] = min(row / queries, tokens - 1);
    head_of[r] = kv_head * queries + row % queries;
  }
  const int last_token = min((mma_row0 + kMmaRows - 1) / queries, tokens - 1);
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
      copy_unit(&to.keys[token][to.key_unit(token, unit)], key, there);
      copy_unit(&to.values[token][to.value_unit(token, unit)],
                key + static_cast<int64_t>(layer.kv_heads) * kPage * kHeadDim, there);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  load_piece(0);

  Queries<kHeadDim> q;
  const auto query_row = [&](int r) -> const bf16_t* {
    if (mma_row0 + g + 8 * r >= mma_rows) return nullptr;
    return qkv + (static_cast<int64_t>(row0 + token_of[r]) * (layer.heads + 2 * layer.kv_heads) +
                  head_of[r]) *
                     kHeadDim;
  };
  q.load(query_row(0), query_row(1), t);

  const float scale = layer.scale * kLog2E;
  Joined joined[2];
  float value[kHeadDim / 8][4] = {};
  for (int piece = 0; piece < pieces; ++piece) {
    if (piece + 1 < pieces) {
      load_piece(piece + 1);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    const int first = piece * kDecodeChunk;
    const Piece<kHeadDim>& at = ring[piece % 2];
    if (works && first < visible0 + last_token) {
      PageScores score[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        page_scores<kHeadDim>(
            q,
            [&](int half, int s) {
              const int token = page * kPage + 8 * half + g;
              return at.keys[token][at.key_unit(token, 4 * s + t)];
            },
            score[page]);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int token = first + page * kPage + 8 * half + 2 * t + (c & 1);
            const int visible = visible0 + token_of[c >> 1];
            score[page][half][c] = token < visible ? score[page][half][c] * scale : -INFINITY;
          }
      }
      Joined::Shares shares[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float largest = largest_of(score[0], r);
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
    if (mma_row0 + g + 8 * r >= mma_rows) continue;
    bf16_t* to =
        out + (static_cast<int64_t>(row0 + token_of[r]) * layer.heads + head_of[r]) * kHeadDim;
    // A padding row sees nothing.
    const auto share = [&](float total) {
      return pieces > 0 ? __fdiv_rn(total, joined[r].sum) : 0;
    };
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
      *reinterpret_cast<uint32_t*>(to + 8 * n + 2 * t) =
          pack_bf16(share(value[n][2 * r]), share(value[n][2 * r + 1]));
  }
}

template <int kHeadDim>
void launch_prefill(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = 2 * sizeof(Piece<kHeadDim>);
  static const bool allowed = [] {
    allow_shared_memory(prefill_attention_kernel<kHeadDim>, kBytes);
    return true;
  }();
  (void)allowed;
  const int queries = layer.heads / layer.kv_heads;
  const int parts = div_up((batch.tile_rows ? kPrefillRows : 1) * queries, kMmaRows);
  const int groups = div_up(parts, kMostWarps);
  const int warps = std::max(kLeastWarps, div_up(parts, groups));
  launch(prefill_attention_kernel<kHeadDim>,
         dim3(static_cast<unsigned>(layer.kv_heads * groups), static_cast<unsigned>(batch.tiles)),
         static_cast<unsigned>(warps * kWarpSize), kBytes, stream, batch, layer, qkv, out);
}

}  // namespace

void prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                       bf16_t* out, cudaStream_t stream) {
  if (batch.tiles == 0) return;
  if (layer.head_dim == 128) return launch_prefill<128>(batch, layer, qkv, out, stream);
  launch_prefill<64>(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
