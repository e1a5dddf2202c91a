// Root-mean-square norm, with the addition before it and the quantization behind it: a block a row.
#include "ops/cuda/rows.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

// kEarly: weights, which do not depend on the kernel before this one, are loaded while that ends.
// With many rows other blocks hide that latency, and the registers are worth more.
template <int kWidth, int kSlots, bool kEarly>
__global__ void add_rms_norm_kernel(bf16_t* residual, const bf16_t* x, const float* gamma,
                                    float epsilon, bf16_t* y, QuantizedRows quantized,
                                    int64_t cols) {
  __shared__ float of_squares[kWarpSize], of_codes[kWarpSize];
  using Part = RowPart<kWidth, kSlots>;
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  float early[kEarly ? kSlots : 1][kWidth];
  const auto load_weights = [&](int64_t c, float(&weight)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) weight[i] = __ldg(gamma + c + i);
  };
  if constexpr (kEarly)
    Part::for_each(cols, [&](int64_t c, int slot) { load_weights(c, early[slot]); });
  wait_for_previous_kernel();
  bf16_t* residual_row = residual + row * cols;
  Part part, other;
  Part::for_each(cols, [&](int64_t c, int slot) {
    part.piece[slot] = Packed<kWidth>::load(residual_row + c);
    if (x) other.piece[slot] = Packed<kWidth>::load(x + row * cols + c);
  });
  float squares = 0, value[kWidth];
  Part::for_each(cols, [&](int64_t c, int slot) {
    part.piece[slot].unpack(value);
    if (x) {
      float added[kWidth];
      other.piece[slot].unpack(added);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[i] += added[i];
      part.piece[slot] = Packed<kWidth>::round(value);
      part.piece[slot].store(residual_row + c);
      part.piece[slot].unpack(value);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares = fmaf(value[i], value[i], squares);
  });
  squares = block_reduce(squares, 0, of_squares, [](float v) { return warp_sum(v); });
  const float factor = norm_factor(squares, cols, epsilon);
  Part::for_each(cols, [&](int64_t c, int slot) {
    float late[kWidth];
    if constexpr (!kEarly) load_weights(c, late);
    part.piece[slot].unpack(value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      value[i] = value[i] * factor * (kEarly ? early[kEarly ? slot : 0][i] : late[i]);
    part.piece[slot] = Packed<kWidth>::round(value);
    // Who takes the codes of a row does not need the row.
    if (quantized.kind == Codes::none) part.piece[slot].store(y + row * cols + c);
  });
  quantize(part, quantized, row, cols, of_codes);
}

}  // namespace

void add_rms_norm(bf16_t* residual, const bf16_t* x, const float* gamma, float epsilon, bf16_t* y,
                  QuantizedRows quantized, int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  // The sum of squares depends on the number of threads, which is therefore the same for any rows.
  constexpr int64_t kThreads = 512, kFewRows = 256;
  for_row_shape(cols, kThreads, [&](auto width, auto slots, unsigned threads) {
    constexpr bool kSmall = width() * slots() <= 16;
    const auto kernel = kSmall && rows <= kFewRows ? add_rms_norm_kernel<width(), slots(), kSmall>
                                                   : add_rms_norm_kernel<width(), slots(), false>;
    launch(kernel, static_cast<unsigned>(rows), threads, 0, stream, residual, x, gamma, epsilon, y,
           quantized, cols);
  });
}

}  // namespace narrow::ops::cuda
