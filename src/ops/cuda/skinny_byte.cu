// Few rows of codes against 8-bit weights, int8 or e4m3. A lane reads inputs 16t … 16t + 15 of every
// 64 for rows g and g + 8. Integer sums are exact.
#include "ops/cuda/skinny.cuh"

namespace narrow::ops::cuda {
namespace {

template <class Accumulator>
struct ByteFormat {
  struct Weights {
    const uint8_t* data;
    const float* scale;  // [out]
    int64_t in_padded;
  };
  using X = QuantizedRows;
  using Sum = Accumulator;
  static constexpr int kStepInputs = kByteStep;
  struct Step {
    uint4 low[2], high[2];
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
          value[n][half] =
              row < rows ? *reinterpret_cast<const uint4*>(
                               x.codes + static_cast<int64_t>(row) * x.stride +
                               static_cast<int64_t>(step) * kStepInputs + 64 * half + 16 * (lane % 4))
                         : make_uint4(0, 0, 0, 0);
        }
    }
  };

  __device__ static Step load(const Weights& weights, int row_tile, int step, int lane) {
    const uint8_t* from =
        weights.data + (static_cast<int64_t>(row_tile) * kRowTile + lane / 4) * weights.in_padded +
        static_cast<int64_t>(step) * kStepInputs + 16 * (lane % 4);
    Step result;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      result.low[half] = load_streaming(from + 64 * half);
      result.high[half] = load_streaming(from + 8 * weights.in_padded + 64 * half);
    }
    return result;
  }

  __device__ static void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    mma_fp8(c, a0, a1, a2, a3, b0, b1);
  }
  __device__ static void mma(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    mma_int8(c, a0, a1, a2, a3, b0, b1);
  }

  template <int kTokenTiles>
  __device__ static void multiply(const Step& w, const Weights&, int, int,
                                  const Inputs<kTokenTiles>& x, Sum (&sums)[kTokenTiles][4], int) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const uint4 low = w.low[half], high = w.high[half], b = x.value[n][half];
        mma(sums[n], low.x, high.x, low.y, high.y, b.x, b.y);
        mma(sums[n], low.z, high.z, low.w, high.w, b.z, b.w);
      }
  }

  __device__ static float finish(Sum sum, const Weights& weights, const X& x, int column, int row) {
    return static_cast<float>(sum) * (x.scales[row] * weights.scale[column]);
  }
};

template <class Accumulator>
void skinny_byte(const uint8_t* weight, const float* scale, int64_t out, int64_t in_padded,
                 QuantizedRows x, int64_t rows, Output y, cudaStream_t stream) {
  launch_skinny<ByteFormat<Accumulator>, 4>({weight, scale, in_padded}, x, out, in_padded, rows, y,
                                            stream);
}

}  // namespace

void skinny_int8(const uint8_t* weight, const float* scale, int64_t out, int64_t in_padded,
                 QuantizedRows x, int64_t rows, Output y, cudaStream_t stream) {
  skinny_byte<int>(weight, scale, out, in_padded, x, rows, y, stream);
}

void skinny_fp8(const uint8_t* weight, const float* scale, int64_t out, int64_t in_padded,
                QuantizedRows x, int64_t rows, Output y, cudaStream_t stream) {
  skinny_byte<float>(weight, scale, out, in_padded, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
