// e4m3 products. Sums of 128 inputs, an atom, are added up in float32 (gemm.cuh, kPromotes); a
// warpgroup that waits for its products to add them leaves the tensor cores idle, as another one
// falls into step with it. So sums of one kind are added while the next are made: those of an atom
// and those of the next one, or in wide tiles, of which registers do not hold two, those of one
// half of the outputs and those of the other.
//
// kStepsOfRun: stages whose products follow each other without a gap. ptxas knows which sums are
// being written only within straight code: at the end of it all products are waited for.
#pragma once

#include <type_traits>

#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

// Adds to a warpgroup's 64 rows of a tile the products of `steps` stages, which one thread, which
// `speaks`, gives back. x_atom: of all rows of an atom of a stage, in 16 bytes. kUnderWay: atoms
// whose products are made at a time, two or three.
template <int kOut, int kAtoms, int kUnderWay, int kStepsOfRun>
__device__ void add_products_by_atoms(TileRing& at, int steps, uint32_t x_atom, bool speaks,
                                      float (&totals)[kOut / 2]) {
  static_assert(kUnderWay == 2 || kUnderWay == 3);
  float sums[kUnderWay][kOut / 2];
  const auto run = [&]<int kSteps>(std::integral_constant<int, kSteps>) {
    constexpr int kAll = kSteps * kAtoms;
    uint32_t read[kSteps] = {};
    // The i-th atom's, when only kLater behind it may still be multiplied.
    const auto add = [&]<int kLater>(int i, std::integral_constant<int, kLater>) {
      wgmma_wait<kLater>();
      if (i % kAtoms == kAtoms - 1 && speaks) arrive_at(read[i / kAtoms]);
#pragma unroll
      for (int j = 0; j < kOut / 2; ++j) {
        keep(sums[i % kUnderWay][j]);
        totals[j] += sums[i % kUnderWay][j];
      }
    };
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      at.wait_for_tiles();
#pragma unroll
      for (int atom = 0; atom < kAtoms; ++atom) {
        const int i = step * kAtoms + atom;
        const uint32_t x = at.x() + static_cast<uint32_t>(atom) * x_atom;
        const uint32_t w = at.weights() + static_cast<uint32_t>(atom * kOut * kAtomBytes / 16);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          wgmma<MmaType::e4m3, kOut>(sums[i % kUnderWay], descriptor_from_low(x + 2 * k),
                                     descriptor_from_low(w + 2 * k), k > 0);
        wgmma_commit();
        if (atom == kAtoms - 1) {
          read[step] = at.read();
          at.advance();
        }
        if (i + 1 >= kUnderWay)
          add(i + 1 - kUnderWay, std::integral_constant<int, kUnderWay - 1>());
      }
    }
    if constexpr (kAll > 1 && kUnderWay == 3) add(kAll - 2, std::integral_constant<int, 1>());
    add(kAll - 1, std::integral_constant<int, 0>());
  };
  for (; steps >= kStepsOfRun; steps -= kStepsOfRun)
    run(std::integral_constant<int, kStepsOfRun>());
  for (; steps > 0; --steps) run(std::integral_constant<int, 1>());
}

// The same in two halves of the outputs, of stages of one atom.
template <int kOut, int kStepsOfRun>
__device__ void add_products_in_halves(TileRing& at, int steps, bool speaks,
                                       float (&totals)[kOut / 2]) {
  constexpr int kHalf = kOut / 2;  // outputs, each a row of weights
  float sums[2][kHalf / 2];
  const auto multiply = [&](int half) {
    const uint32_t w = at.weights() + static_cast<uint32_t>(half * kHalf * kAtomBytes / 16);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma<MmaType::e4m3, kHalf>(sums[half], descriptor_from_low(at.x() + 2 * k),
                                  descriptor_from_low(w + 2 * k), k > 0);
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
    at.wait_for_tiles();
    multiply(0);
    multiply(1);
    wgmma_wait<1>();
    add(0);
#pragma unroll
    for (int step = 1; step < kSteps; ++step) {
      const uint32_t read = at.read();
      at.advance();
      at.wait_for_tiles();
      multiply(0);
      wgmma_wait<1>();
      if (speaks) arrive_at(read);
      add(1);
      multiply(1);
      wgmma_wait<1>();
      add(0);
    }
    wgmma_wait<0>();
    if (speaks) arrive_at(at.read());
    add(1);
    at.advance();
  };
  for (; steps >= kStepsOfRun; steps -= kStepsOfRun)
    run(std::integral_constant<int, kStepsOfRun>());
  for (; steps > 0; --steps) run(std::integral_constant<int, 1>());
}

}  // namespace narrow::ops::cuda
