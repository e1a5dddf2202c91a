// Few rows against 4-bit weights: codes become bf16 integers in registers, products of a group are
// added up in float32, and each group's sum is multiplied by its scale once.
#include "ops/cuda/int4.cuh"
#include "ops/cuda/skinny.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

template <int kGroup, bool kOffsets>
struct Int4Format {
  struct Weights {
    const uint4* words;
    const uint32_t* scales;
    const uint32_t* offsets;
    int64_t chunks;  // in_padded / 64
  };
  struct X {
    const bf16_t* data;
    int64_t in;
  };
  using Sum = float;
  static constexpr int kStepInputs = 128;
  static constexpr int kGroups = kStepInputs / kGroup;  // of a step
  struct Step {
    uint4 words[2];
    uint32_t scales[kGroups];
    uint32_t offsets[kOffsets ? kGroups : 1];
  };
  template <int kTokenTiles>
  struct Inputs {
    uint4 value[kTokenTiles][4];
    __device__ void load(const X& x, int step, int token0, int rows, int lane) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          const int row = token0 + 8 * n + lane / 4;
          const int64_t k = static_cast<int64_t>(step) * kStepInputs + 32 * part + 8 * (lane % 4);
          value[n][part] = row < rows && k < x.in
                               ? *reinterpret_cast<const uint4*>(x.data + row * x.in + k)
                               : make_uint4(0, 0, 0, 0);
        }
    }
  };

  __device__ static Step load(const Weights& weights, int row_tile, int step, int lane) {
    Step result;
    const int64_t chunk = static_cast<int64_t>(row_tile) * weights.chunks + 2 * step;
    result.words[0] = load_streaming(weights.words + chunk * kWarpSize + lane);
    result.words[1] = load_streaming(weights.words + (chunk + 1) * kWarpSize + lane);
    const int64_t group = (static_cast<int64_t>(row_tile) * weights.chunks * 64 / kGroup) +
                          static_cast<int64_t>(step) * kGroups;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      result.scales[i] = __ldg(weights.scales + (group + i) * 8 + lane / 4);
      if (kOffsets) result.offsets[i] = __ldg(weights.offsets + (group + i) * 8 + lane / 4);
    }
    return result;
  }

  template <int kTokenTiles>
  __device__ static void multiply(const Step& w, const Weights&, int, int,
                                  const Inputs<kTokenTiles>& x, float (&sums)[kTokenTiles][4],
                                  int) {
    const uint32_t words[8] = {w.words[0].x, w.words[0].y, w.words[0].z, w.words[0].w,
                               w.words[1].x, w.words[1].y, w.words[1].z, w.words[1].w};
    constexpr int kWordsPerGroup = 8 / kGroups;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float of_group[kTokenTiles][4] = {};
      const uint32_t low = kOffsets ? twice_low(w.offsets[group]) : kSymmetricOffset;
      const uint32_t high = kOffsets ? twice_high(w.offsets[group]) : kSymmetricOffset;
#pragma unroll
      for (int i = 0; i < kWordsPerGroup; ++i) {
        const int s = group * kWordsPerGroup + i;
        const Int4Pairs a = unpack_int4(words[s], low, high);
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          const uint4 b = x.value[n][s / 2];
          mma_bf16(of_group[n], a.a0, a.a1, a.a2, a.a3, s % 2 == 0 ? b.x : b.z,
                   s % 2 == 0 ? b.y : b.w);
        }
      }
      const float2 scale = unpack_bf16(w.scales[group]);  // rows g and g + 8
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        sums[n][0] = fmaf(of_group[n][0], scale.x, sums[n][0]);
        sums[n][1] = fmaf(of_group[n][1], scale.x, sums[n][1]);
        sums[n][2] = fmaf(of_group[n][2], scale.y, sums[n][2]);
        sums[n][3] = fmaf(of_group[n][3], scale.y, sums[n][3]);
      }
    }
  }

  __device__ static float finish(float sum, const Weights&, const X&, int, int) { return sum; }
};

template <int kGroup>
void run(const Int4Weights& weights, int64_t out, int64_t in, const bf16_t* x, int64_t rows,
         Output y, cudaStream_t stream) {
  const int64_t in_padded = static_cast<int64_t>(div_up(in, 128)) * 128;
  const int64_t chunks = in_padded / 64;
  if (weights.offsets) {
    launch_skinny<Int4Format<kGroup, true>, 4>(
        {weights.words, weights.scales, weights.offsets, chunks}, {x, in}, out, in_padded, rows, y,
        stream);
  } else {
    launch_skinny<Int4Format<kGroup, false>, 4>({weights.words, weights.scales, nullptr, chunks},
                                                {x, in}, out, in_padded, rows, y, stream);
  }
}

}  // namespace

void skinny_int4(const Int4Weights& weights, int64_t out, int64_t in, const bf16_t* x, int64_t rows,
                 Output y, cudaStream_t stream) {
  if (weights.group == 32) return run<32>(weights, out, in, x, rows, y, stream);
  if (weights.group == 64) return run<64>(weights, out, in, x, rows, y, stream);
  run<128>(weights, out, in, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
