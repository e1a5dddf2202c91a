// Few rows against bf16 weights. A lane reads inputs 8t … 8t + 7 of every 32 for rows g and g + 8.
#include "ops/cuda/skinny.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

struct Bf16Rows {
  const bf16_t* data;
  int64_t in;  // elements of a row, not padded
};

// Eight inputs of a row, zeros past its end. Rows whose length is no multiple of 8 are not aligned.
__device__ uint4 load_inputs(const Bf16Rows& x, int64_t row, int64_t k) {
  const bf16_t* from = x.data + row * x.in + k;
  if (x.in % 8 == 0)
    return k < x.in ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float low = k + 2 * i < x.in ? __bfloat162float(from[2 * i]) : 0;
    const float high = k + 2 * i + 1 < x.in ? __bfloat162float(from[2 * i + 1]) : 0;
    words[i] = pack_bf16(low, high);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

struct Bf16Format {
  struct Weights {
    const bf16_t* data;
    int64_t in_padded;
  };
  using X = Bf16Rows;
  using Sum = float;
  static constexpr int kStepInputs = kDenseStep;
  struct Step {
    uint4 low[2], high[2];  // rows g and g + 8, both halves of the step
  };
  template <int kTokenTiles>
  struct Inputs {
    uint4 value[kTokenTiles][2];
    __device__ void load(const X& x, int step, int token0, int rows, int lane) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = token0 + 8 * n + lane / 4;
          const int64_t k = static_cast<int64_t>(step) * kStepInputs + 32 * half + 8 * (lane % 4);
          value[n][half] = row < rows ? load_inputs(x, row, k) : make_uint4(0, 0, 0, 0);
        }
    }
  };

  __device__ static Step load(const Weights& weights, int row_tile, int step, int lane) {
    const bf16_t* from =
        weights.data + (static_cast<int64_t>(row_tile) * kRowTile + lane / 4) * weights.in_padded +
        static_cast<int64_t>(step) * kStepInputs + 8 * (lane % 4);
    Step result;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      result.low[half] = load_streaming(from + 32 * half);
      result.high[half] = load_streaming(from + 8 * weights.in_padded + 32 * half);
    }
    return result;
  }

  template <int kTokenTiles>
  __device__ static void multiply(const Step& w, const Weights&, int, int,
                                  const Inputs<kTokenTiles>& x, float (&sums)[kTokenTiles][4],
                                  int) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const uint4 low = w.low[half], high = w.high[half], b = x.value[n][half];
        mma_bf16(sums[n], low.x, high.x, low.y, high.y, b.x, b.y);
        mma_bf16(sums[n], low.z, high.z, low.w, high.w, b.z, b.w);
      }
  }

  __device__ static float finish(float sum, const Weights&, const X&, int, int) { return sum; }
};

}  // namespace

void skinny_bf16(const bf16_t* weight, int64_t out, int64_t in, const bf16_t* x, int64_t rows,
                 Output y, cudaStream_t stream) {
  const int64_t in_padded = static_cast<int64_t>(div_up(in, kDenseStep)) * kDenseStep;
  launch_skinny<Bf16Format, 4>({weight, in_padded}, {x, in}, out, in_padded, rows, y, stream);
}

}  // namespace narrow::ops::cuda
