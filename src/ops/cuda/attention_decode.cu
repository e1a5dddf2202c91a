// Attention of single rows over the paged cache. A thread block sees kDecodeChunk tokens of one
// sequence and one key/value head, and all query heads that share it as the rows of one mma tile;
// the last block of a row to finish adds the chunks up, in their order. Chunks begin at multiples
// of kDecodeChunk whatever the batch, so a row's result is its own.
#include <cstddef>

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = 4;
constexpr int kPage = 16;     // tokens of a cache block
constexpr int kQueries = 16;  // rows of the mma tile

// One partial result: weighted values [kQueries][kHeadDim], then largest scores and sums
// [kQueries].
__host__ __device__ constexpr int64_t partial_floats(int head_dim) {
  return static_cast<int64_t>(kQueries) * head_dim + 2 * kQueries;
}

template <int kHeadDim>
struct Shared {
  float values[kWarps][kQueries][kHeadDim + 4];
  float largest[kWarps][kQueries];
  float sum[kWarps][kQueries];
  bool last;
};

// kWide: more than 8 query heads share a key head, so that rows g + 8 of the tile are in use.
template <int kHeadDim, bool kWide>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    decode_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out,
                            float* workspace, uint32_t* counters) {
  constexpr int kSteps = kHeadDim / 32;     // a lane's 16-byte pieces of a key row
  constexpr int kDimTiles = kHeadDim / 64;  // 64 dims: 8 lane groups of 8
  const int kv_head = blockIdx.x, chunk = blockIdx.y, single = blockIdx.z;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = batch.single_row[single];
  const int visible = batch.single_visible[single];
  bf16_t* out_row = out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries) * kHeadDim;
  if (visible == 0) {
    if (chunk == 0)
      for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x)
        out_row[i] = __float2bfloat16_rn(0);
    return;
  }
  const int chunks = (visible + kDecodeChunk - 1) / kDecodeChunk;
  if (chunk >= chunks) return;
  const int first = chunk * kDecodeChunk, end = min(visible, first + kDecodeChunk);
  const int32_t* table = batch.block_table + batch.single_table[single];

  // Queries as the A operand: rows are heads, a lane's k are dims 8t … 8t + 7 of every 32.
  uint4 low[kSteps], high[kWide ? kSteps : 1];
  const bf16_t* q = qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) +
                           static_cast<int64_t>(kv_head) * queries) *
                              kHeadDim;
  const uint4 zero = make_uint4(0, 0, 0, 0);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    low[s] =
        g < queries ? *reinterpret_cast<const uint4*>(q + g * kHeadDim + 32 * s + 8 * t) : zero;
    if (kWide)
      high[s] = g + 8 < queries
                    ? *reinterpret_cast<const uint4*>(q + (g + 8) * kHeadDim + 32 * s + 8 * t)
                    : zero;
  }

  float accumulated[kDimTiles][8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  for (int page = first / kPage + warp; page * kPage < end; page += kWarps) {
    const int64_t block = table[page];
    const bf16_t* keys = layer.kv + (block * 2 * layer.kv_heads + kv_head) * kPage * kHeadDim;
    const bf16_t* values = keys + static_cast<int64_t>(layer.kv_heads) * kPage * kHeadDim;
    uint4 k[2][kSteps], v[kDimTiles][4];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        k[half][s] = load_streaming(keys + (g + 8 * half) * kHeadDim + 32 * s + 8 * t);
        // A lane's values: tokens 2t, 2t + 1, 2t + 8, 2t + 9, dims 8g … 8g + 7 of every 64.
#pragma unroll
    for (int tile = 0; tile < kDimTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        v[tile][i] = load_streaming(values + (2 * t + (i & 1) + 8 * (i >> 1)) * kHeadDim +
                                    64 * tile + 8 * g);

    float score[2][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const uint4 a = low[s], b = kWide ? high[s] : zero;
        mma_bf16(score[half], a.x, b.x, a.y, b.y, k[half][s].x, k[half][s].y);
        mma_bf16(score[half], a.z, b.z, a.w, b.w, k[half][s].z, k[half][s].w);
      }
      // score[half][0, 1]: head g, tokens 8 half + 2t, + 1; [2, 3]: head g + 8.
#pragma unroll
    for (int r = 0; r < (kWide ? 2 : 1); ++r) {
      float most = -INFINITY;
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = score[half][2 * r + c];
          s = page * kPage + 8 * half + 2 * t + c < end ? s * layer.scale : -INFINITY;
          most = fmaxf(most, s);
        }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float now = fmaxf(largest[r], most);
      const float shrink = __expf(largest[r] - now);
      largest[r] = now;
      sum[r] *= shrink;
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = score[half][2 * r + c];
          s = __expf(s - now);
          sum[r] += s;
        }
#pragma unroll
      for (int tile = 0; tile < kDimTiles; ++tile)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          accumulated[tile][j][2 * r] *= shrink;
          accumulated[tile][j][2 * r + 1] *= shrink;
        }
    }
    const uint32_t p0 = pack_bf16(score[0][0], score[0][1]),
                   p2 = pack_bf16(score[1][0], score[1][1]);
    const uint32_t p1 = kWide ? pack_bf16(score[0][2], score[0][3]) : 0;
    const uint32_t p3 = kWide ? pack_bf16(score[1][2], score[1][3]) : 0;
    // Column g of product j is dim 8g + j: element j of the lane's vectors.
#pragma unroll
    for (int tile = 0; tile < kDimTiles; ++tile) {
      const uint32_t* a = reinterpret_cast<const uint32_t*>(&v[tile][0]);
      const uint32_t* b = reinterpret_cast<const uint32_t*>(&v[tile][1]);
      const uint32_t* c = reinterpret_cast<const uint32_t*>(&v[tile][2]);
      const uint32_t* d = reinterpret_cast<const uint32_t*>(&v[tile][3]);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t select = j % 2 == 0 ? 0x5410 : 0x7632;
        mma_bf16(accumulated[tile][j], p0, p1, p2, p3, __byte_perm(a[j / 2], b[j / 2], select),
                 __byte_perm(c[j / 2], d[j / 2], select));
      }
    }
  }

  // The warps of the chunk, then the chunks, each brought to the largest score of all.
  extern __shared__ char memory[];
  Shared<kHeadDim>& shared = *reinterpret_cast<Shared<kHeadDim>*>(memory);
#pragma unroll
  for (int r = 0; r < (kWide ? 2 : 1); ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    if (t == 0) {
      shared.largest[warp][g + 8 * r] = largest[r];
      shared.sum[warp][g + 8 * r] = sum[r];
    }
#pragma unroll
    for (int tile = 0; tile < kDimTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          shared.values[warp][g + 8 * r][64 * tile + 8 * (2 * t + c) + j] =
              accumulated[tile][j][2 * r + c];
  }
  __syncthreads();
  const int64_t part = (static_cast<int64_t>(single) * layer.kv_heads + kv_head) * gridDim.y;
  float* partial = workspace + (part + chunk) * partial_floats(kHeadDim);
  for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x) {
    const int head = i / kHeadDim, d = i % kHeadDim;
    float most = -INFINITY;
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, shared.largest[w][head]);
    float value = 0, total = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float share = __expf(shared.largest[w][head] - most);
      value += shared.values[w][head][d] * share;
      total += shared.sum[w][head] * share;
    }
    if (chunks == 1) {
      out_row[i] = __float2bfloat16_rn(value / total);
    } else {
      partial[i] = value;
      if (d == 0) {
        partial[kQueries * kHeadDim + head] = most;
        partial[kQueries * kHeadDim + kQueries + head] = total;
      }
    }
  }
  if (chunks == 1) return;

  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t before = atomicAdd(&counters[single * layer.kv_heads + kv_head], 1);
    shared.last = before + 1 == static_cast<uint32_t>(chunks);
    if (shared.last) counters[single * layer.kv_heads + kv_head] = 0;
  }
  __syncthreads();
  if (!shared.last) return;
  __threadfence();
  for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x) {
    const int head = i / kHeadDim;
    const float* parts = workspace + part * partial_floats(kHeadDim);
    float most = -INFINITY;
    for (int c = 0; c < chunks; ++c)
      most = fmaxf(most, __ldcg(parts + c * partial_floats(kHeadDim) + kQueries * kHeadDim + head));
    float value = 0, total = 0;
    for (int c = 0; c < chunks; ++c) {
      const float* from = parts + c * partial_floats(kHeadDim);
      const float share = __expf(__ldcg(from + kQueries * kHeadDim + head) - most);
      value += __ldcg(from + i) * share;
      total += __ldcg(from + kQueries * kHeadDim + kQueries + head) * share;
    }
    out_row[i] = __float2bfloat16_rn(value / total);
  }
}

template <int kHeadDim, bool kWide>
void launch_decode(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                   bf16_t* out, float* workspace, uint32_t* counters, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(Shared<kHeadDim>);
  static const bool allowed = [] {
    allow_shared_memory(decode_attention_kernel<kHeadDim, kWide>, kBytes);
    return true;
  }();
  (void)allowed;
  launch(decode_attention_kernel<kHeadDim, kWide>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.chunks),
              static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, kBytes, stream, batch, layer, qkv, out, workspace, counters);
}

}  // namespace

int64_t decode_workspace_bytes(const AttentionLayer& layer, int64_t singles, int64_t chunks) {
  return chunks <= 1 ? 0
                     : singles * layer.kv_heads * chunks * partial_floats(layer.head_dim) *
                           static_cast<int64_t>(sizeof(float));
}

void decode_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                      bf16_t* out, float* workspace, uint32_t* counters, cudaStream_t stream) {
  if (batch.singles == 0) return;
  const bool wide = layer.heads / layer.kv_heads > 8;
  if (layer.head_dim == 128) {
    (wide ? launch_decode<128, true> : launch_decode<128, false>)(batch, layer, qkv, out, workspace,
                                                                  counters, stream);
  } else {
    (wide ? launch_decode<64, true> : launch_decode<64, false>)(batch, layer, qkv, out, workspace,
                                                                counters, stream);
  }
}

}  // namespace narrow::ops::cuda
