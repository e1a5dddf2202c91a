// Root-mean-square norm, with the quantization behind it: a block a row.
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/rows.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

// kEarly: weights, which do not depend on the kernel before this one, are loaded while that ends.
// With many rows other blocks hide that latency, and the registers are worth more.
// A thread does what kFolds threads would: the sum of squares has the order of so many times as
// many. kRehearses: all of it is run on zeros first (rows.cuh).
template <int kWidth, int kSlots, int kFolds, bool kEarly, bool kRehearses>
__global__ void __launch_bounds__(threads_bound(kSlots))
    rms_norm_kernel(const bf16_t* x, const float* gamma, float epsilon, bf16_t* y,
                    QuantizedRows quantized, uint32_t* cleared, int64_t cols) {
  __shared__ float of_squares[kWarpSize], of_codes[kWarpSize];
  constexpr int kPieces = kSlots * kFolds;
  using Part = RowPart<kWidth, kPieces>;
  const int64_t row = blockIdx.x;
  let_next_kernel_start();
  float early[kEarly ? kPieces : 1][kWidth];
  if constexpr (kEarly)
    Part::for_each(cols, [&](int64_t c, int slot) { load_table(gamma + c, early[slot]); });
  const auto run = [&](auto rehearsal) {
    if (!rehearsal) {
      wait_for_previous_kernel();
      if (cleared && threadIdx.x == 0) cleared[row] = 0;
    }
    Part part;
    Part::for_each(cols, [&](int64_t c, int slot) {
      part.piece[slot] = {};
      if (!rehearsal) part.piece[slot] = Packed<kWidth>::load(x + row * cols + c);
    });
    float of_fold[kFolds] = {}, value[kWidth];
    Part::for_each(cols, [&](int64_t, int slot) {
      part.piece[slot].unpack(value);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        of_fold[slot % kFolds] = fmaf(value[i], value[i], of_fold[slot % kFolds]);
    });
    const int warps = (blockDim.x + kWarpSize - 1) / kWarpSize, lane = threadIdx.x % kWarpSize;
#pragma unroll
    for (int f = 0; f < kFolds; ++f) {
      const float sum = warp_sum(of_fold[f]);
      if (lane == 0) of_squares[f * warps + threadIdx.x / kWarpSize] = sum;
    }
    __syncthreads();
    const float squares = warp_sum(lane < kFolds * warps ? of_squares[lane] : 0);
    const float factor = norm_factor(squares, cols, epsilon);
    Part::for_each(cols, [&](int64_t c, int slot) {
      float late[kWidth];
      if constexpr (!kEarly) load_table(gamma + c, late);
      part.piece[slot].unpack(value);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        value[i] = value[i] * factor * (kEarly ? early[kEarly ? slot : 0][i] : late[i]);
      part.piece[slot] = Packed<kWidth>::round(value);
      // Who takes the codes of a row does not need the row.
      if (quantized.kind == Codes::none)
        store_unless(rehearsal, part.piece[slot],
                     reinterpret_cast<Packed<kWidth>*>(y + row * cols + c));
    });
    quantize(part, quantized, row, cols, of_codes, rehearsal);
  };
  rehearse_and_run<kRehearses>(run);
}

}  // namespace

void rms_norm(const bf16_t* x, const float* gamma, float epsilon, bf16_t* y,
              QuantizedRows quantized, uint32_t* cleared, int64_t rows, int64_t cols,
              cudaStream_t stream) {
  if (rows == 0) return;
  // The sum of squares depends on the number of threads, which is therefore the same for any rows,
  // though one may do the work of several.
  constexpr int64_t kThreads = 512, kFewRows = 256, kManyRows = 1024;
  constexpr int kFolds = 4;  // of many rows: more of them at a time on a processor
  for_row_shape(cols, kThreads, [&](auto width, auto slots, unsigned threads) {
    constexpr bool kSmall = width() * slots() <= 16;
    const auto run = [&](auto kernel, unsigned of_block) {
      launch(kernel, static_cast<unsigned>(rows), of_block, 0, stream, x, gamma, epsilon, y,
             quantized, cleared, cols);
    };
    if constexpr (kSmall && width() == 8)
      if (rehearses(rows)) return run(rms_norm_kernel<width(), slots(), 1, true, true>, threads);
    if constexpr (kSmall)
      if (rows <= kFewRows) return run(rms_norm_kernel<width(), slots(), 1, true, false>, threads);
    if constexpr (kSmall && width() == 8)
      if (rows > kManyRows && threads % (kFolds * kWarpSize) == 0)
        return run(rms_norm_kernel<width(), slots(), kFolds, false, false>, threads / kFolds);
    run(rms_norm_kernel<width(), slots(), 1, false, false>, threads);
  });
}

}  // namespace narrow::ops::cuda
