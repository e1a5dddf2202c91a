// Attention for any head size up to 256 and any ratio of heads: one warp per row and head, in the
// order of the tokens. For models too small or too odd for the tiled kernels.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"

namespace narrow::ops::cuda {
namespace {

constexpr int kMostPerLane = 8;  // 256 dims over 32 lanes

template <class Kv>
__global__ void simple_attention_kernel(DeviceBatch batch, AttentionLayer layer,
                                        const __nv_bfloat16* qkv, __nv_bfloat16* out) {
  wait_for_previous_kernel();
  const int single = blockIdx.x, head = blockIdx.y, lane = threadIdx.x;
  const int row = batch.single_row[single], visible = batch.single_visible[single];
  const int dim = layer.head_dim, kv_head = head / (layer.heads / layer.kv_heads);
  const int32_t* table = batch.block_table + batch.single_table[single];
  const __nv_bfloat16* q =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + head) * dim;
  float accumulated[kMostPerLane] = {}, largest = -INFINITY, sum = 0;
  for (int token = 0; token < visible; ++token) {
    const Kv* k = static_cast<const Kv*>(layer.kv) +
                  ((static_cast<int64_t>(table[token / 16]) * 2 * layer.kv_heads + kv_head) * 16 +
                   token % 16) *
                      dim;
    const Kv* v = k + static_cast<int64_t>(layer.kv_heads) * 16 * dim;
    float dot = 0;
    for (int d = lane; d < dim; d += kWarpSize) dot += number_of(q[d]) * number_of(k[d]);
    const float score = warp_sum(dot) * layer.scale;
    const float now = fmaxf(largest, score);
    const float shrink = __expf(largest - now), weight = __expf(score - now);
    largest = now;
    sum = sum * shrink + weight;
#pragma unroll
    for (int i = 0; i < kMostPerLane; ++i)
      if (lane + i * kWarpSize < dim)
        accumulated[i] = accumulated[i] * shrink + weight * number_of(v[lane + i * kWarpSize]);
  }
  __nv_bfloat16* to = out + (static_cast<int64_t>(row) * layer.heads + head) * dim;
#pragma unroll
  for (int i = 0; i < kMostPerLane; ++i)
    if (lane + i * kWarpSize < dim)
      to[lane + i * kWarpSize] = __float2bfloat16_rn(visible > 0 ? accumulated[i] / sum : 0);
}

}  // namespace

void simple_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                      const __nv_bfloat16* qkv, __nv_bfloat16* out, cudaStream_t stream) {
  if (batch.singles == 0) return;
  launch(layer.e4m3 ? simple_attention_kernel<e4m3_t> : simple_attention_kernel<__nv_bfloat16>,
         dim3(static_cast<unsigned>(batch.singles), static_cast<unsigned>(layer.heads)), kWarpSize,
         0, stream, batch, layer, qkv, out);
}

}  // namespace narrow::ops::cuda
