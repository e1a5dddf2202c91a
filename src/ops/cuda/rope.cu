// Rotary embedding, and the way of keys and values into the paged cache.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

// One thread per pair (d, d + head_dim / 2) of a head; heads are queries, then keys, then values.
__global__ void rope_and_store_kernel(DeviceBatch batch, AttentionLayer layer, const float* cosine,
                                      const float* sine, __nv_bfloat16* qkv) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = blockIdx.x;
  const int half = layer.head_dim / 2;
  const int heads = layer.heads + 2 * layer.kv_heads;
  const int64_t position = batch.positions[row];
  const int slot = batch.slots[row];
  __nv_bfloat16* values = qkv + static_cast<int64_t>(row) * heads * layer.head_dim;
  const int64_t block = slot / 16, offset = slot % 16;
  for (int i = threadIdx.x + blockIdx.y * blockDim.x; i < heads * half;
       i += blockDim.x * gridDim.y) {
    const int head = i / half, d = i % half;
    __nv_bfloat16* low = values + head * layer.head_dim + d;
    __nv_bfloat16* high = low + half;
    if (head < layer.heads + layer.kv_heads) {
      const float c = cosine[position * half + d], s = sine[position * half + d];
      const float x = __bfloat162float(*low), y = __bfloat162float(*high);
      *low = __float2bfloat16_rn(x * c - y * s);
      *high = __float2bfloat16_rn(y * c + x * s);
    }
    if (head >= layer.heads && slot >= 0) {
      const int64_t kv_head = head - layer.heads;  // keys, then values
      __nv_bfloat16* to =
          layer.kv + ((block * 2 * layer.kv_heads + kv_head) * 16 + offset) * layer.head_dim + d;
      to[0] = *low;
      to[half] = *high;
    }
  }
}

}  // namespace

void rope_and_store(const DeviceBatch& batch, const AttentionLayer& layer, const float* cosine,
                    const float* sine, __nv_bfloat16* qkv, cudaStream_t stream) {
  if (batch.rows == 0) return;
  const int pairs = (layer.heads + 2 * layer.kv_heads) * layer.head_dim / 2;
  constexpr int kThreads = 256;
  // Few rows: several blocks share one, so that its latency is that of one pass.
  const unsigned parts = batch.rows >= 256 ? 1 : static_cast<unsigned>(div_up(pairs, kThreads));
  launch(rope_and_store_kernel, dim3(static_cast<unsigned>(batch.rows), parts), kThreads, 0, stream,
         batch, layer, cosine, sine, qkv);
}

}  // namespace narrow::ops::cuda
