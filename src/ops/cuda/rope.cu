// Rotary embedding, and the way of keys and values into the paged cache.
#include <type_traits>

#include "ops/cuda/device.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"

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
  const int row = blockIdx.x, half = layer.head_dim / 2, per_head = half / kWidth;
  const int i = static_cast<int>(threadIdx.x + blockIdx.y * blockDim.x);
  const int head = i / per_head, d = i % per_head * kWidth;
  const int heads = layer.heads + 2 * layer.kv_heads;
  if (head >= heads) return;
  using Values = Vector<kWidth>;
  __nv_bfloat16* const numbers =
      qkv + (static_cast<int64_t>(row) * heads + head) * layer.head_dim + d;
  auto* const low = reinterpret_cast<Values*>(numbers);
  auto* const high = reinterpret_cast<Values*>(numbers + half);
  Values x = *low, y = *high;
  if (head < layer.heads + layer.kv_heads) {
    const int64_t at = static_cast<int64_t>(batch.positions[row]) * half + d;
    float c[kWidth], s[kWidth];
    load_table(cosine + at, c);
    load_table(sine + at, s);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float2 rotated =
          rotate(__bfloat162float(x.value[j]), __bfloat162float(y.value[j]), c[j], s[j]);
      x.value[j] = __float2bfloat16_rn(rotated.x);
      y.value[j] = __float2bfloat16_rn(rotated.y);
    }
    *low = x;
    *high = y;
  }
  const int slot = batch.slots[row];
  if (head >= layer.heads && slot >= 0) {
    const int64_t block = slot / 16, kv_head = head - layer.heads;  // keys, then values
    Kv* const to = static_cast<Kv*>(layer.kv) +
                   ((block * 2 * layer.kv_heads + kv_head) * 16 + slot % 16) * layer.head_dim + d;
    Vector<kWidth, Kv> low_codes, high_codes;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      store_rounded(__bfloat162float(x.value[j]), &low_codes.value[j]);
      store_rounded(__bfloat162float(y.value[j]), &high_codes.value[j]);
    }
    *reinterpret_cast<Vector<kWidth, Kv>*>(to) = low_codes;
    *reinterpret_cast<Vector<kWidth, Kv>*>(to + half) = high_codes;
  }
}

}  // namespace

void rope_and_store(const DeviceBatch& batch, const AttentionLayer& layer, const float* cosine,
                    const float* sine, __nv_bfloat16* qkv, cudaStream_t stream) {
  if (batch.rows == 0) return;
  const int pairs = (layer.heads + 2 * layer.kv_heads) * layer.head_dim / 2;
  // So few threads that few rows have several blocks each; with half of them steps of 8 sequences
  // took 2 % longer.
  constexpr int kThreads = 256, kWide = 8;
  const auto run = [&](auto width) {
    constexpr int kWidth = width();
    launch(layer.e4m3 ? rope_and_store_kernel<kWidth, e4m3_t>
                      : rope_and_store_kernel<kWidth, __nv_bfloat16>,
           dim3(static_cast<unsigned>(batch.rows),
                static_cast<unsigned>(div_up(pairs, kWidth * kThreads))),
           kThreads, 0, stream, batch, layer, cosine, sine, qkv);
  };
  if (layer.head_dim % (2 * kWide) == 0) {
    run(std::integral_constant<int, kWide>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace narrow::ops::cuda
