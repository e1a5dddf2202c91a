// Operations that see one row at a time: embedding, norm, activation function, quantization.
#include <algorithm>
#include <type_traits>

#include "ops/cuda/device.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

__global__ void embed_kernel(const int32_t* tokens, const bf16_t* table, bf16_t* out,
                             int64_t cols) {
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const bf16_t* from = table + static_cast<int64_t>(tokens[row]) * cols;
  for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) out[row * cols + c] = from[c];
}

__global__ void add_kernel(bf16_t* residual, const bf16_t* x, int64_t elements) {
  wait_for_previous_kernel();
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < elements)
    residual[i] = __float2bfloat16_rn(__bfloat162float(residual[i]) + __bfloat162float(x[i]));
}

// Values of a row that one thread holds: kSlots vectors of kWidth, kWidth · blockDim apart.
template <int kWidth, int kSlots>
struct RowPart {
  float value[kSlots][kWidth];

  __device__ static int64_t column(int slot) {
    return (static_cast<int64_t>(slot) * blockDim.x + threadIdx.x) * kWidth;
  }
  template <class Function>  // function(column, value[kWidth])
  __device__ void for_each(int64_t cols, Function function) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot)
      if (column(slot) < cols) function(column(slot), value[slot]);
  }
};

template <int kWidth>
__device__ void load(const bf16_t* from, float (&to)[kWidth]) {
  if constexpr (kWidth == 8) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_bf16(pairs[i]);
      to[2 * i] = pair.x;
      to[2 * i + 1] = pair.y;
    }
  } else {
    to[0] = __bfloat162float(*from);
  }
}

// Rounds to bf16: `value` is afterwards what was stored.
template <int kWidth>
__device__ void store(float (&value)[kWidth], bf16_t* to) {
  if constexpr (kWidth == 8) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = pack_bf16(value[2 * i], value[2 * i + 1]);
      const float2 rounded = unpack_bf16(pairs[i]);
      value[2 * i] = rounded.x;
      value[2 * i + 1] = rounded.y;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  } else {
    *to = __float2bfloat16_rn(value[0]);
    value[0] = __bfloat162float(*to);
  }
}

template <int kWidth>
__device__ void round_to_bf16(float (&value)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) value[i] = __bfloat162float(__float2bfloat16_rn(value[i]));
}

// Who takes the codes of a row does not need the row.
template <int kWidth>
__device__ void round_or_store(float (&value)[kWidth], const QuantizedRows& quantized, bf16_t* to) {
  if (quantized.kind == Codes::none) {
    store<kWidth>(value, to);
  } else {
    round_to_bf16<kWidth>(value);
  }
}

template <class Code>
__device__ void store_codes(const float (&value)[8], const Divisor& scale, uint8_t* to) {
  uint32_t words[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    words[i / 4] |= static_cast<uint32_t>(Code::encode(value[i], scale)) << (8 * (i % 4));
  *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
}

// Codes of the row that the block holds in `part`.
template <class Code, int kWidth, int kSlots>
__device__ void quantize(RowPart<kWidth, kSlots>& part, const QuantizedRows& to, int64_t row,
                         int64_t cols, float* scratch) {
  float largest = 0;
  part.for_each(cols, [&](int64_t, float(&value)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) largest = fmaxf(largest, fabsf(value[i]));
  });
  largest = block_reduce(largest, 0, scratch, [](float v) { return warp_max(v); });
  const float scale = scale_of(largest, Code::kGrid);
  const Divisor divisor(scale);
  uint8_t* codes = to.codes + row * to.stride;
  part.for_each(cols, [&](int64_t c, float(&value)[kWidth]) {
    if constexpr (kWidth == 8) {
      store_codes<Code>(value, divisor, codes + c);
    } else {
      codes[c] = Code::encode(value[0], divisor);
    }
  });
  for (int64_t c = cols + threadIdx.x; c < to.stride; c += blockDim.x) codes[c] = 0;
  if (threadIdx.x == 0) to.scales[row] = scale;
}

template <int kWidth, int kSlots>
__device__ void quantize(RowPart<kWidth, kSlots>& part, const QuantizedRows& to, int64_t row,
                         int64_t cols, float* scratch) {
  if (to.kind == Codes::int8) quantize<Int8Code>(part, to, row, cols, scratch);
  if (to.kind == Codes::fp8) quantize<Fp8Code>(part, to, row, cols, scratch);
}

template <int kWidth, int kSlots>
__global__ void add_rms_norm_kernel(bf16_t* residual, const bf16_t* x, const float* gamma,
                                    float epsilon, bf16_t* y, QuantizedRows quantized,
                                    int64_t cols) {
  __shared__ float scratch[33];
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  // Weights do not depend on the kernel before this one.
  constexpr bool kEarly = kSlots <= 2;
  RowPart<kWidth, kEarly ? kSlots : 1> weight;
  if constexpr (kEarly)
    weight.for_each(cols, [&](int64_t c, float(&value)[kWidth]) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[i] = __ldg(gamma + c + i);
    });
  wait_for_previous_kernel();
  RowPart<kWidth, kSlots> part;
  float squares = 0;
  part.for_each(cols, [&](int64_t c, float(&value)[kWidth]) {
    load<kWidth>(residual + row * cols + c, value);
    if (x) {
      float other[kWidth];
      load<kWidth>(x + row * cols + c, other);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[i] += other[i];
      store<kWidth>(value, residual + row * cols + c);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares += value[i] * value[i];
  });
  squares = block_reduce(squares, 0, scratch, [](float v) { return warp_sum(v); });
  const float factor = 1 / sqrtf(squares / static_cast<float>(cols) + epsilon);
  int slot = 0;
  part.for_each(cols, [&](int64_t c, float(&value)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      value[i] = value[i] * factor * (kEarly ? weight.value[kEarly ? slot : 0][i] : gamma[c + i]);
    ++slot;
    round_or_store<kWidth>(value, quantized, y + row * cols + c);
  });
  quantize(part, quantized, row, cols, scratch);
}

// To a few units of float32's last place, of which bf16 keeps none.
__device__ inline float silu(float x) { return __fdividef(x, 1 + __expf(-x)); }

template <int kWidth, int kSlots>
__global__ void silu_mul_kernel(const bf16_t* gate_up, bf16_t* y, QuantizedRows quantized,
                                int64_t cols) {
  __shared__ float scratch[33];
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  wait_for_previous_kernel();
  RowPart<kWidth, kSlots> part;
  part.for_each(cols, [&](int64_t c, float(&value)[kWidth]) {
    float up[kWidth];
    load<kWidth>(gate_up + row * 2 * cols + c, value);
    load<kWidth>(gate_up + row * 2 * cols + cols + c, up);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] = silu(value[i]) * up[i];
    round_or_store<kWidth>(value, quantized, y + row * cols + c);
  });
  quantize(part, quantized, row, cols, scratch);
}

// Few long rows: the blocks of a cluster share one and tell each other their largest values.
constexpr int kSharers = 8;
template <class Code>
__global__ void silu_mul_shared_kernel(const bf16_t* gate_up, QuantizedRows quantized,
                                       int64_t cols) {
  __shared__ float scratch[33], largest_of[kSharers];
  const int64_t row = blockIdx.y;
  const int64_t c = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  let_next_kernel_start();
  cluster_sync();  // every block of the cluster is there to be written to
  wait_for_previous_kernel();
  float value[8] = {}, up[8];
  float largest = 0;
  if (c < cols) {
    load<8>(gate_up + row * 2 * cols + c, value);
    load<8>(gate_up + row * 2 * cols + cols + c, up);
#pragma unroll
    for (int i = 0; i < 8; ++i) value[i] = silu(value[i]) * up[i];
    round_to_bf16<8>(value);
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(value[i]));
  }
  largest = block_reduce(largest, 0, scratch, [](float v) { return warp_max(v); });
  if (threadIdx.x < kSharers)
    store_in_cluster(address_in(&largest_of[blockIdx.x], threadIdx.x), largest);
  cluster_sync();
#pragma unroll
  for (int i = 0; i < kSharers; ++i) largest = fmaxf(largest, largest_of[i]);
  const float scale = scale_of(largest, Code::kGrid);
  // Beyond the row: codes of zeros are zeros.
  if (c < quantized.stride)
    store_codes<Code>(value, Divisor(scale), quantized.codes + row * quantized.stride + c);
  if (blockIdx.x == 0 && threadIdx.x == 0) quantized.scales[row] = scale;
}

// Without codes a row needs no block to itself: one row then keeps many processors busy.
template <int kWidth>
__global__ void silu_mul_columns_kernel(const bf16_t* gate_up, bf16_t* y, int64_t cols) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.y;
  const int64_t c = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * kWidth;
  if (c >= cols) return;
  float value[kWidth], up[kWidth];
  load<kWidth>(gate_up + row * 2 * cols + c, value);
  load<kWidth>(gate_up + row * 2 * cols + cols + c, up);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) value[i] = silu(value[i]) * up[i];
  store<kWidth>(value, y + row * cols + c);
}

template <int kWidth, int kSlots>
__global__ void quantize_rows_kernel(const bf16_t* x, QuantizedRows quantized, int64_t cols) {
  __shared__ float scratch[33];
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  wait_for_previous_kernel();
  RowPart<kWidth, kSlots> part;
  part.for_each(cols,
                [&](int64_t c, float(&value)[kWidth]) { load<kWidth>(x + row * cols + c, value); });
  quantize(part, quantized, row, cols, scratch);
}

// Chooses vector width and slots for a row: a block of at most 1024 threads holds it whole.
template <class Launch>
void for_row_shape(int64_t cols, Launch launch_with) {
  constexpr int64_t kMostThreads = 1024;
  const int width = cols % 8 == 0 ? 8 : 1;
  const int64_t vectors = cols / width;
  const int64_t slots = div_up(vectors, kMostThreads);
  const auto threads = static_cast<unsigned>(div_up(div_up(vectors, slots), kWarpSize) * kWarpSize);
  using std::integral_constant;
  if (width == 8 && slots <= 1) {
    launch_with(integral_constant<int, 8>(), integral_constant<int, 1>(), threads);
  } else if (width == 8 && slots <= 2) {
    launch_with(integral_constant<int, 8>(), integral_constant<int, 2>(), threads);
  } else if (width == 8 && slots <= 8) {  // 65 536 columns: Llama-3.1-405B has 53 248
    launch_with(integral_constant<int, 8>(), integral_constant<int, 8>(), threads);
  } else if (width == 1 && slots <= 16) {
    launch_with(integral_constant<int, 1>(), integral_constant<int, 16>(), threads);
  } else {
    check(cudaErrorInvalidValue, "rows wider than 65536 columns");
  }
}

}  // namespace

void embed(const int32_t* tokens, const bf16_t* table, bf16_t* out, int64_t rows, int64_t cols,
           cudaStream_t stream) {
  if (rows == 0) return;
  launch(embed_kernel, static_cast<unsigned>(rows), 256, 0, stream, tokens, table, out, cols);
}

void gather_rows(const bf16_t* x, const int32_t* rows, bf16_t* out, int64_t count, int64_t cols,
                 cudaStream_t stream) {
  embed(rows, x, out, count, cols, stream);
}

void add(bf16_t* residual, const bf16_t* x, int64_t elements, cudaStream_t stream) {
  if (elements == 0) return;
  launch(add_kernel, static_cast<unsigned>(div_up(elements, 256)), 256, 0, stream, residual, x,
         elements);
}

void add_rms_norm(bf16_t* residual, const bf16_t* x, const float* gamma, float epsilon, bf16_t* y,
                  QuantizedRows quantized, int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  for_row_shape(cols, [&](auto width, auto slots, unsigned threads) {
    launch(add_rms_norm_kernel<width(), slots()>, static_cast<unsigned>(rows), threads, 0, stream,
           residual, x, gamma, epsilon, y, quantized, cols);
  });
}

void silu_mul(const bf16_t* gate_up, bf16_t* y, QuantizedRows quantized, int64_t rows, int64_t cols,
              cudaStream_t stream) {
  if (rows == 0) return;
  if (quantized.kind == Codes::none && cols % 8 == 0) {
    constexpr int kThreads = 128;
    launch(silu_mul_columns_kernel<8>,
           dim3(static_cast<unsigned>(div_up(cols, 8 * kThreads)), static_cast<unsigned>(rows)),
           kThreads, 0, stream, gate_up, y, cols);
    return;
  }
  constexpr int64_t kFewRows = 32, kLongRow = 4096;
  if (has_clusters() && rows <= kFewRows && cols >= kLongRow && cols % 8 == 0) {
    const int threads = div_up(div_up(quantized.stride, 8 * kSharers), kWarpSize) * kWarpSize;
    if (threads <= 1024)
      return launch_clusters(kSharers,
                             quantized.kind == Codes::int8 ? silu_mul_shared_kernel<Int8Code>
                                                           : silu_mul_shared_kernel<Fp8Code>,
                             dim3(kSharers, static_cast<unsigned>(rows)), threads, 0, stream,
                             gate_up, quantized, cols);
  }
  for_row_shape(cols, [&](auto width, auto slots, unsigned threads) {
    launch(silu_mul_kernel<width(), slots()>, static_cast<unsigned>(rows), threads, 0, stream,
           gate_up, y, quantized, cols);
  });
}

void quantize_rows(const bf16_t* x, QuantizedRows quantized, int64_t rows, int64_t cols,
                   cudaStream_t stream) {
  if (rows == 0) return;
  for_row_shape(cols, [&](auto width, auto slots, unsigned threads) {
    launch(quantize_rows_kernel<width(), slots()>, static_cast<unsigned>(rows), threads, 0, stream,
           x, quantized, cols);
  });
}

}  // namespace narrow::ops::cuda
