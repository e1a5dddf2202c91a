// Attention of single rows over the paged cache. A thread block sees one piece of one sequence
// and one key/value head, and all query heads that share it as the rows of one mma tile; the last
// block of a row to finish joins the pieces. Warp w scores page w, then weighs the values of all
// pages in its quarter of the dimensions.
#include "ops/cuda/attention.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;

__device__ inline void load_key(const bf16_t* from, Numbers<bf16_t, 4>& to) {
  const uint2 four = load_streaming_8(from);
  to.pair[0] = four.x, to.pair[1] = four.y;
}
// Half a sector of memory: the next step's codes are the other half.
__device__ inline void load_key(const e4m3_t* from, Numbers<e4m3_t, 4>& to) {
  const uint32_t four = __ldg(reinterpret_cast<const uint32_t*>(from));
  to.pair[0] = static_cast<uint16_t>(four), to.pair[1] = static_cast<uint16_t>(four >> 16);
}

// One piece's result: weighted values [kMmaRows][kHeadDim], then largest scores and sums
// [kMmaRows].
__host__ __device__ constexpr int64_t partial_floats(int head_dim) {
  return static_cast<int64_t>(kMmaRows) * head_dim + 2 * kMmaRows;
}

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    decode_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out,
                            float* workspace, uint32_t* counters) {
  constexpr int kDims = kHeadDim / 32;  // of a lane, beside each other
  constexpr int kWarpDims = 8 * kDims;
  __shared__ Exchange exchange;
  __shared__ bool last;
  const int kv_head = blockIdx.x, piece = blockIdx.y, single = blockIdx.z;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = batch.single_row[single];
  const int visible = batch.single_visible[single];
  bf16_t* out_row = out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries) * kHeadDim;
  if (visible == 0) {
    if (piece == 0)
      for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x)
        out_row[i] = __float2bfloat16_rn(0);
    return;
  }
  const int pieces = (visible + kDecodeChunk - 1) / kDecodeChunk;
  if (piece >= pieces) return;
  const int first = piece * kDecodeChunk, end = min(visible, first + kDecodeChunk);
  const int32_t* table = batch.block_table + batch.single_table[single] + first / kPage;
  const int64_t page_elements = static_cast<int64_t>(kPage) * kHeadDim;
  const auto keys_of = [&](int page) {
    return static_cast<const Kv*>(layer.kv) +
           (static_cast<int64_t>(table[page]) * 2 * layer.kv_heads + kv_head) * page_elements;
  };

  // All loads first: keys of this warp's page, values of every page. What lies beyond the end may
  // be another sequence's, or no number at all: it is not read.
  Numbers<Kv, 4> keys[2][kHeadDim / 16];
  Numbers<Kv, kDims> values[kPages][4];  // tokens 2t, 2t + 1, 2t + 8, 2t + 9
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s) {
      keys[half][s] = {};
      if (first + warp * kPage + 8 * half + g < end)
        load_key(keys_of(warp) + (8 * half + g) * kHeadDim + 16 * s + 4 * t, keys[half][s]);
    }
#pragma unroll
  for (int page = 0; page < kPages; ++page)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 2 * t + (i & 1) + 8 * (i >> 1);
      values[page][i] = {};
      if (first + page * kPage + token < end)
        values[page][i] = *reinterpret_cast<const Numbers<Kv, kDims>*>(
            keys_of(page) + layer.kv_heads * page_elements + token * kHeadDim + warp * kWarpDims +
            kDims * g);
    }
  Queries<kHeadDim> q;
  const bf16_t* q_rows = qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) +
                                static_cast<int64_t>(kv_head) * queries) *
                                   kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

  PageScores score;
  page_scores<kHeadDim>(
      q,
      [&](int half, int s) {
        return make_uint2(keys[half][s].widened(0), keys[half][s].widened(1));
      },
      score);
  const float scale = layer.scale * kLog2E;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      score[half][c] =
          scaled(score[half][c], scale, first + warp * kPage + 8 * half + 2 * t + (c & 1) < end);
  const PieceSums sums = weigh_piece(score, exchange);

  float weighted[kDims][4] = {};  // column g of product j is dim kDims g + j
#pragma unroll
  for (int page = 0; page < kPages; ++page) {
    const uint4 w = exchange.weights[page][lane];
#pragma unroll
    for (int d = 0; d < kDims / 2; ++d) {
      uint32_t dims[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) dims[i] = values[page][i].widened(d);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        mma_bf16(weighted[2 * d + j], w.x, w.y, w.z, w.w, across(dims[0], dims[1], j),
                 across(dims[2], dims[3], j));
    }
  }
  const int64_t part = (static_cast<int64_t>(single) * layer.kv_heads + kv_head) * gridDim.y;
  float* partial = workspace + (part + piece) * partial_floats(kHeadDim);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = g + 8 * r;
    if (head >= queries) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int j = 0; j < kDims; ++j) {
        const int dim = warp * kWarpDims + kDims * (2 * t + c) + j;
        if (pieces == 1) {
          // A negative zero becomes positive, as joining would make it.
          out_row[head * kHeadDim + dim] =
              __float2bfloat16_rn(__fdiv_rn(weighted[j][2 * r + c] + 0.0f, sums.sum[r]));
        } else {
          partial[head * kHeadDim + dim] = weighted[j][2 * r + c];
        }
      }
    if (pieces > 1 && warp == 0 && t == 0) {
      partial[kMmaRows * kHeadDim + head] = sums.largest[r];
      partial[kMmaRows * kHeadDim + kMmaRows + head] = sums.sum[r];
    }
  }
  if (pieces == 1) return;

  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t before = atomicAdd(&counters[single * layer.kv_heads + kv_head], 1);
    last = before + 1 == static_cast<uint32_t>(pieces);
    if (last) counters[single * layer.kv_heads + kv_head] = 0;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  const float* parts = workspace + part * partial_floats(kHeadDim);
  for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x) {
    const float* of_head = parts + kMmaRows * kHeadDim + i / kHeadDim;
    Joined joined;
    float value = 0;
#pragma unroll 4
    for (int c = 0; c < pieces; ++c) {
      const int64_t at = c * partial_floats(kHeadDim);
      const auto shares = joined.join(__ldcg(of_head + at), __ldcg(of_head + at + kMmaRows));
      value = fmaf(__ldcg(parts + at + i), shares.piece, value * shares.before);
    }
    out_row[i] = __float2bfloat16_rn(__fdiv_rn(value, joined.sum));
  }
}

template <int kHeadDim, class Kv>
void launch_decode(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                   bf16_t* out, float* workspace, uint32_t* counters, cudaStream_t stream) {
  launch(decode_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.chunks),
              static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, 0, stream, batch, layer, qkv, out, workspace, counters);
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
  const auto run = layer.head_dim == 128
                       ? (layer.e4m3 ? launch_decode<128, e4m3_t> : launch_decode<128, bf16_t>)
                       : (layer.e4m3 ? launch_decode<64, e4m3_t> : launch_decode<64, bf16_t>);
  run(batch, layer, qkv, out, workspace, counters, stream);
}

}  // namespace narrow::ops::cuda
