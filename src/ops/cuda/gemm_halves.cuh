// e4m3 products of wide tiles. Sums of 128 inputs are added up in float32 (gemm.cuh, kPromotes); a
// warpgroup that waits for its products to add them leaves the tensor cores idle, as the other one
// falls into step with it. So it multiplies the outputs in two halves and adds one of them while
// the other is multiplied.
#pragma once

#include <type_traits>

#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

// The consumers' place in a ring of stages. A stage is rows of x, then of weights.
struct RingPlace {
  const uint8_t* ring;
  uint64_t *full, *empty;
  int stages, stage_bytes;
  int stage = 0;
  uint32_t parity = 0;

  __device__ const uint8_t* tiles() const { return ring + stage * stage_bytes; }
  __device__ void wait_for_tiles() const { wait(&full[stage], parity); }
  __device__ void advance() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Steps whose products follow each other without a gap. ptxas knows which sums are being written
// only within straight code: at the end of it all products are waited for.
constexpr int kStepsOfRun = 8;

// Adds to a warpgroup's 64 rows of a tile the products of `steps` stages of one atom each, of which
// one thread, which `speaks`, gives back. x_offset: of the warpgroup's rows in a stage, w_offset:
// of the weights.
template <int kOut>
__device__ void add_products_in_halves(RingPlace& place, int steps, int x_offset, int w_offset,
                                       bool speaks, float (&totals)[kOut / 2]) {
  constexpr int kHalf = kOut / 2;  // outputs, each a row of weights
  float sums[2][kHalf / 2];
  const auto multiply = [&](int half) {
    const uint64_t x = tile_descriptor(place.tiles() + x_offset);
    const uint64_t w = tile_descriptor(place.tiles() + w_offset + half * kHalf * kAtomBytes);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma<MmaType::e4m3, kHalf>(sums[half], x + 2 * k, w + 2 * k, k > 0);
    wgmma_commit();
  };
  const auto add = [&](int half) {
#pragma unroll
    for (int i = 0; i < kHalf / 2; ++i) {
      keep(sums[half][i]);
      totals[half * (kHalf / 2) + i] += sums[half][i];
    }
  };
  const auto run = [&]<int kSteps>(std::integral_constant<int, kSteps>) {
    place.wait_for_tiles();
    multiply(0);
    multiply(1);
    wgmma_wait<1>();
    add(0);
#pragma unroll
    for (int step = 1; step < kSteps; ++step) {
      uint64_t* read = &place.empty[place.stage];
      place.advance();
      place.wait_for_tiles();
      multiply(0);
      wgmma_wait<1>();
      if (speaks) arrive(read);
      add(1);
      multiply(1);
      wgmma_wait<1>();
      add(0);
    }
    wgmma_wait<0>();
    if (speaks) arrive(&place.empty[place.stage]);
    add(1);
    place.advance();
  };
  for (; steps >= kStepsOfRun; steps -= kStepsOfRun)
    run(std::integral_constant<int, kStepsOfRun>());
  for (; steps > 0; --steps) run(std::integral_constant<int, 1>());
}

}  // namespace narrow::ops::cuda
