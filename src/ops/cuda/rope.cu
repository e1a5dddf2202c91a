// Rotary embedding, and the way of keys and values into the paged cache.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

template <int kWidth, class Number = __nv_bfloat16>
struct alignas(kWidth * sizeof(Number)) Vector {
  Number value[kWidth];
};

// One thread per kWidth pairs (d, d + head_dim / 2) of a head; heads are queries, then keys, then
// values.
template <int kWidth, class Kv>
__global__ void rope_and_store_kernel(DeviceBatch batch, AttentionLayer layer, const float* cosine,
                                      const float* sine, __nv_bfloat16* qkv) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row = blockIdx.x;
  const int half = layer.head_dim / 2, per_head = half / kWidth;
  const int heads = layer.heads + 2 * layer.kv_heads;
  const int64_t position = batch.positions[row];
  const int slot = batch.slots[row];
  __nv_bfloat16* values = qkv + static_cast<int64_t>(row) * heads * layer.head_dim;
  const int64_t block = slot / 16, offset = slot % 16;
  using Values = Vector<kWidth>;
  for (int i = threadIdx.x + blockIdx.y * blockDim.x; i < heads * per_head;
       i += blockDim.x * gridDim.y) {
    const int head = i / per_head, d = i % per_head * kWidth;
    auto* low = reinterpret_cast<Values*>(values + head * layer.head_dim + d);
    auto* high = reinterpret_cast<Values*>(values + head * layer.head_dim + d + half);
    Values x = *low, y = *high;
    if (head < layer.heads + layer.kv_heads) {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        const float c = __ldg(cosine + position * half + d + j);
        const float s = __ldg(sine + position * half + d + j);
        const float a = __bfloat162float(x.value[j]), b = __bfloat162float(y.value[j]);
        const float2 rotated = rotate(a, b, c, s);
        x.value[j] = __float2bfloat16_rn(rotated.x);
        y.value[j] = __float2bfloat16_rn(rotated.y);
      }
      *low = x;
      *high = y;
    }
    if (head >= layer.heads && slot >= 0) {
      const int64_t kv_head = head - layer.heads;  // keys, then values
      Kv* to = static_cast<Kv*>(layer.kv) +
               ((block * 2 * layer.kv_heads + kv_head) * 16 + offset) * layer.head_dim + d;
      Vector<kWidth, Kv> low_codes, high_codes;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        store_rounded(to_float(x.value[j]), &low_codes.value[j]);
        store_rounded(to_float(y.value[j]), &high_codes.value[j]);
      }
      *reinterpret_cast<Vector<kWidth, Kv>*>(to) = low_codes;
      *reinterpret_cast<Vector<kWidth, Kv>*>(to + half) = high_codes;
    }
  }
}

}  // namespace

void rope_and_store(const DeviceBatch& batch, const AttentionLayer& layer, const float* cosine,
                    const float* sine, __nv_bfloat16* qkv, cudaStream_t stream) {
  if (batch.rows == 0) return;
  const int pairs = (layer.heads + 2 * layer.kv_heads) * layer.head_dim / 2;
  constexpr int kThreads = 256, kWidth = 8;
  if (layer.head_dim % (2 * kWidth) == 0) {
    // Few rows: several blocks share one, so that its latency is that of one pass.
    const unsigned parts =
        batch.rows >= 256 ? 1 : static_cast<unsigned>(div_up(pairs, kWidth * kThreads));
    launch(layer.e4m3 ? rope_and_store_kernel<kWidth, e4m3_t>
                      : rope_and_store_kernel<kWidth, __nv_bfloat16>,
           dim3(static_cast<unsigned>(batch.rows), parts), kThreads, 0, stream, batch, layer,
           cosine, sine, qkv);
  } else {
    launch(layer.e4m3 ? rope_and_store_kernel<1, e4m3_t> : rope_and_store_kernel<1, __nv_bfloat16>,
           dim3(static_cast<unsigned>(batch.rows), static_cast<unsigned>(div_up(pairs, kThreads))),
           kThreads, 0, stream, batch, layer, cosine, sine, qkv);
  }
}

}  // namespace narrow::ops::cuda
