// Operations that see one row at a time: embedding, order of columns, activation function,
// quantization.
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/rows.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

// Lets nothing start early: attention of rows that were gathered from a step reads, before it
// waits, keys that the kernel in front of this one stored.
template <int kWidth>
__global__ void embed_kernel(const int32_t* tokens, const int32_t* chosen, const bf16_t* table,
                             bf16_t* out, int64_t cols) {
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const int32_t token = tokens[row];
  const bf16_t* from = table + static_cast<int64_t>(token < 0 ? chosen[~token] : token) * cols;
  for (int64_t c = threadIdx.x * kWidth; c < cols; c += blockDim.x * kWidth)
    Packed<kWidth>::load(from + c).store(out + row * cols + c);
}

// Eight columns a thread.
__global__ void gather_columns_kernel(const bf16_t* x, const int32_t* columns, bf16_t* out,
                                      int64_t cols) {
  const int64_t c = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  const bf16_t* from = x + blockIdx.y * cols;
  let_next_kernel_start();
  int4 low{}, high{};
  if (c < cols) {  // does not depend on the kernel before this one
    low = *reinterpret_cast<const int4*>(columns + c);
    high = *reinterpret_cast<const int4*>(columns + c + 4);
  }
  wait_for_previous_kernel();
  if (c >= cols) return;
  const auto pair = [from](int first, int second) {
    const __nv_bfloat162 both = __halves2bfloat162(from[first], from[second]);
    return *reinterpret_cast<const uint32_t*>(&both);
  };
  const Packed<8> gathered = {make_uint4(pair(low.x, low.y), pair(low.z, low.w),
                                         pair(high.x, high.y), pair(high.z, high.w))};
  gathered.store(out + blockIdx.y * cols + c);
}

__global__ void add_kernel(bf16_t* residual, const bf16_t* x, int64_t elements) {
  wait_for_previous_kernel();
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < elements)
    residual[i] = __float2bfloat16_rn(__bfloat162float(residual[i]) + __bfloat162float(x[i]));
}

template <int kWidth, int kSlots>
__global__ void __launch_bounds__(threads_bound(kSlots))
    silu_mul_kernel(const bf16_t* gate_up, bf16_t* y, QuantizedRows quantized, int64_t cols) {
  __shared__ float scratch[kWarpSize];
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  wait_for_previous_kernel();
  RowPart<kWidth, kSlots> part;
  part.for_each(cols, [&](int64_t c, int slot) {
    const bf16_t* gate = gate_up + row * 2 * cols + c;
    part.piece[slot] = silu_mul<kWidth>(gate, gate + cols);
    if (quantized.kind == Codes::none) part.piece[slot].store(y + row * cols + c);
  });
  quantize(part, quantized, row, cols, scratch);
}

// Few long rows: the blocks of a cluster share one and tell each other their largest values.
// kGated: x is gate and up of what is quantized.
constexpr int kSharers = 8;
template <class Code, bool kGated>
__global__ void quantize_shared_kernel(const bf16_t* x, QuantizedRows quantized, int64_t cols) {
  __shared__ float scratch[kWarpSize], largest_of[kSharers];
  const int64_t row = blockIdx.y;
  const int64_t c = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  let_next_kernel_start();
  cluster_sync();  // every block of the cluster is there to be written to
  wait_for_previous_kernel();
  float value[8] = {};
  float largest = 0;
  if (c < cols) {
    const bf16_t* const from = x + row * (kGated ? 2 : 1) * cols + c;
    (kGated ? silu_mul<8>(from, from + cols) : Packed<8>::load(from)).unpack(value);
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
  const bf16_t* gate = gate_up + row * 2 * cols + c;
  silu_mul<kWidth>(gate, gate + cols).store(y + row * cols + c);
}

template <int kWidth, int kSlots, bool kRehearses>
__global__ void __launch_bounds__(threads_bound(kSlots))
    quantize_rows_kernel(const bf16_t* x, QuantizedRows quantized, int64_t cols) {
  __shared__ float scratch[kWarpSize];
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  const auto run = [&](auto rehearsal) {
    if (!rehearsal) wait_for_previous_kernel();
    RowPart<kWidth, kSlots> part;
    part.for_each(cols, [&](int64_t c, int slot) {
      part.piece[slot] = {};
      if (!rehearsal) part.piece[slot] = Packed<kWidth>::load(x + row * cols + c);
    });
    quantize(part, quantized, row, cols, scratch, rehearsal);
  };
  rehearse_and_run<kRehearses>(run);
}

template <class Code>
__global__ void quantize_known_rows_kernel(const bf16_t* x, const uint32_t* largest,
                                           QuantizedRows quantized, int64_t cols) {
  const int64_t row = blockIdx.y;
  const int64_t c = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  let_next_kernel_start();
  wait_for_previous_kernel();
  if (c >= quantized.stride) return;
  float value[8] = {};  // beyond the row: codes of zeros are zeros
  if (c < cols) Packed<8>::load(x + row * cols + c).unpack(value);
  const float scale = scale_of(__uint_as_float(largest[row]), Code::kGrid);
  store_codes<Code>(value, Divisor(scale), quantized.codes + row * quantized.stride + c);
  if (c == 0) quantized.scales[row] = scale;
}

// Quantizes rows by clusters, a row each, where they are few and have `long_row` numbers at least;
// else does nothing and returns false.
template <bool kGated>
bool quantize_shared(const bf16_t* x, QuantizedRows quantized, int64_t rows, int64_t cols,
                     int64_t long_row, cudaStream_t stream) {
  constexpr int64_t kFewRows = 32;
  const int64_t threads = div_up(div_up(quantized.stride, 8 * kSharers), kWarpSize) * kWarpSize;
  if (!has_clusters() || rows > kFewRows || cols < long_row || cols % 8 != 0 ||
      threads > kMostThreads)
    return false;
  launch_clusters(kSharers,
                  quantized.kind == Codes::int8 ? quantize_shared_kernel<Int8Code, kGated>
                                                : quantize_shared_kernel<Fp8Code, kGated>,
                  dim3(kSharers, static_cast<unsigned>(rows)), static_cast<unsigned>(threads), 0,
                  stream, x, quantized, cols);
  return true;
}

}  // namespace

void embed(const int32_t* tokens, const int32_t* chosen, const bf16_t* table, bf16_t* out,
           int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  launch(cols % 8 == 0 ? embed_kernel<8> : embed_kernel<1>, static_cast<unsigned>(rows), 256, 0,
         stream, tokens, chosen, table, out, cols);
}

void gather_rows(const bf16_t* x, const int32_t* rows, bf16_t* out, int64_t count, int64_t cols,
                 cudaStream_t stream) {
  embed(rows, nullptr, x, out, count, cols, stream);
}

void gather_columns(const bf16_t* x, const int32_t* columns, bf16_t* out, int64_t rows,
                    int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  // Small blocks spread few rows over many processors; of many rows a block has as much of one as
  // it can, since all who gather from a row bring it to their own L1.
  constexpr int64_t kFewRows = 32;
  const int64_t vectors = div_up(cols, 8);
  const int64_t threads =
      rows <= kFewRows ? 128
                       : std::min<int64_t>(div_up(vectors, kWarpSize) * kWarpSize, kMostThreads);
  launch(gather_columns_kernel,
         dim3(static_cast<unsigned>(div_up(vectors, threads)), static_cast<unsigned>(rows)),
         static_cast<unsigned>(threads), 0, stream, x, columns, out, cols);
}

void add(bf16_t* residual, const bf16_t* x, int64_t elements, cudaStream_t stream) {
  if (elements == 0) return;
  launch(add_kernel, static_cast<unsigned>(div_up(elements, 256)), 256, 0, stream, residual, x,
         elements);
}

void silu_mul(const bf16_t* gate_up, bf16_t* y, QuantizedRows quantized, int64_t rows, int64_t cols,
              cudaStream_t stream) {
  if (rows == 0) return;
  if (quantized.kind == Codes::none && cols % 8 == 0) {
    constexpr int kColumnThreads = 128;
    launch(
        silu_mul_columns_kernel<8>,
        dim3(static_cast<unsigned>(div_up(cols, 8 * kColumnThreads)), static_cast<unsigned>(rows)),
        kColumnThreads, 0, stream, gate_up, y, cols);
    return;
  }
  constexpr int64_t kLongRow = 4096;
  if (quantize_shared<true>(gate_up, quantized, rows, cols, kLongRow, stream)) return;
  for_row_shape(cols, kMostThreads, [&](auto width, auto slots, unsigned threads) {
    launch(silu_mul_kernel<width(), slots()>, static_cast<unsigned>(rows), threads, 0, stream,
           gate_up, y, quantized, cols);
  });
}

void quantize_known_rows(const bf16_t* x, const uint32_t* largest, QuantizedRows quantized,
                         int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  constexpr int kOfBlock = 256;
  launch(quantized.kind == Codes::int8 ? quantize_known_rows_kernel<Int8Code>
                                       : quantize_known_rows_kernel<Fp8Code>,
         dim3(static_cast<unsigned>(div_up(quantized.stride, 8 * kOfBlock)),
              static_cast<unsigned>(rows)),
         kOfBlock, 0, stream, x, largest, quantized, cols);
}

void quantize_rows(const bf16_t* x, QuantizedRows quantized, int64_t rows, int64_t cols,
                   cudaStream_t stream) {
  constexpr int64_t kLongRow = 8192;  // one block is as fast with rows of 4096
  // Of many rows small blocks, of which one loads while another writes (docs/performance/step.md).
  constexpr int64_t kManyRows = 512, kThreadsOfMany = 256;
  if (rows == 0 || quantize_shared<false>(x, quantized, rows, cols, kLongRow, stream)) return;
  for_row_shape(cols, rows > kManyRows ? kThreadsOfMany : kMostThreads,
                [&](auto width, auto slots, unsigned threads) {
                  const auto run = [&](auto kernel) {
                    launch(kernel, static_cast<unsigned>(rows), threads, 0, stream, x, quantized,
                           cols);
                  };
                  if constexpr (width() == 8 && slots() <= 2)
                    if (rehearses(rows)) return run(quantize_rows_kernel<width(), slots(), true>);
                  run(quantize_rows_kernel<width(), slots(), false>);
                });
}

}  // namespace narrow::ops::cuda
