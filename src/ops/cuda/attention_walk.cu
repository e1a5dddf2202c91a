// Attention of single rows over the paged cache when they are many enough to keep every processor
// busy: a block takes one row's heads of one key/value head and walks the pieces of the keys with
// the next one under way.
#include "ops/cuda/attention.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = 4;

// Keys and values of a piece as rows of 16-byte units. A unit's place is exchanged within its row
// so that the reads below touch each bank once: keys by quads over four rows, values by eight rows.
template <int kHeadDim>
struct Piece {
  static constexpr int kUnits = kHeadDim / 8;
  uint4 keys[kDecodeChunk][kUnits], values[kDecodeChunk][kUnits];
  __device__ static int key_unit(int token, int unit) { return unit ^ (token & 3) << 1; }
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
__global__ void __launch_bounds__(kWarps* kWarpSize)
    walk_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out) {
  extern __shared__ uint4 memory[];
  auto* ring = reinterpret_cast<Piece<kHeadDim>*>(memory);
  const int lane = threadIdx.x % kWarpSize, g = lane / 4, t = lane % 4;
  // One warp's rows hold all heads; the others help to load.
  const bool works = threadIdx.x < kWarpSize;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x, single = blockIdx.y;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = batch.single_row[single], end = batch.single_visible[single];
  const int32_t* table = batch.block_table + batch.single_table[single];
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
  const bf16_t* q_rows =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + kv_head * queries) *
                kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

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
    if (works) {
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
            score[page][half][c] = scaled(score[page][half][c], scale, token < end);
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

  if (!works) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (g + 8 * r >= queries) continue;
    bf16_t* to =
        out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries + g + 8 * r) * kHeadDim;
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
void launch_walk(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                 bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = 2 * sizeof(Piece<kHeadDim>);
  static const bool allowed = [] {
    allow_shared_memory(walk_attention_kernel<kHeadDim>, kBytes);
    return true;
  }();
  (void)allowed;
  launch(walk_attention_kernel<kHeadDim>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, kBytes, stream, batch, layer, qkv, out);
}

}  // namespace

void walk_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  if (batch.singles == 0) return;
  if (layer.head_dim == 128) return launch_walk<128>(batch, layer, qkv, out, stream);
  launch_walk<64>(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
