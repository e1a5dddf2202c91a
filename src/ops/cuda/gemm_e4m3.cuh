// e4m3 products. Sums of 128 inputs, an atom, are added up in float32 (gemm.cuh, kPromotes); a
// warpgroup that waits for its products to add them leaves the tensor cores idle, as another one
// falls into step with it. So sums of one kind are added while the next are made: those of an atom
// and those of the next one, or in wide tiles, of which registers do not hold two, those of one
// half of the outputs and those of the other.
//
// kAtomsOfRun: atoms whose products follow each other without a gap. ptxas knows which sums are
// being written only within straight code: at the end of it all products are waited for.
#pragma once

#include <type_traits>

#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

// Adds to a warpgroup's 64 rows of a tile the products of `steps` stages of `atoms` atoms each,
// which one thread, which `speaks`, gives back. x_offset: of the warpgroup's rows in a stage,
// x_bytes: of all rows of an atom; behind the rows of all atoms of a stage lie its weights.
// kUnderWay: atoms whose products are made at a time, two or three.
template <int kOut, int kUnderWay, int kAtomsOfRun>
__device__ void add_products_by_atoms(TileRing& place, int steps, int atoms, int x_offset,
                                      int x_bytes, bool speaks, float (&totals)[kOut / 2]) {
  static_assert(kUnderWay == 2 || kUnderWay == 3);
  float sums[kUnderWay][kOut / 2];
  int atom = 0;  // of the stage
  const auto multiply = [&](int which) {
    const uint64_t x = tile_descriptor(place.tiles() + atom * x_bytes + x_offset);
    const uint64_t w = tile_descriptor(place.tiles() + atoms * x_bytes + atom * kOut * kAtomBytes);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      wgmma<MmaType::e4m3, kOut>(sums[which], x + 2 * k, w + 2 * k, k > 0);
    wgmma_commit();
  };
  // On to the next atom; the stage whose last one this was, to be given back.
  const auto advance = [&]() -> uint64_t* {
    if (++atom < atoms) return nullptr;
    uint64_t* read = &place.empty[place.stage];
    atom = 0;
    place.advance();
    return read;
  };
  const auto run = [&]<int kAtoms>(std::integral_constant<int, kAtoms>) {
    uint64_t* read[kAtoms] = {};
    // The i-th atom's, when only kLater behind it may still be multiplied.
    const auto add = [&]<int kLater>(int i, std::integral_constant<int, kLater>) {
      wgmma_wait<kLater>();
      if (speaks && read[i]) arrive(read[i]);
#pragma unroll
      for (int j = 0; j < kOut / 2; ++j) {
        keep(sums[i % kUnderWay][j]);
        totals[j] += sums[i % kUnderWay][j];
      }
    };
#pragma unroll
    for (int i = 0; i < kAtoms; ++i) {
      place.wait_for_tiles();
      multiply(i % kUnderWay);
      read[i] = advance();
      if (i + 1 >= kUnderWay) add(i + 1 - kUnderWay, std::integral_constant<int, kUnderWay - 1>());
    }
    if constexpr (kAtoms > 1 && kUnderWay == 3) add(kAtoms - 2, std::integral_constant<int, 1>());
    add(kAtoms - 1, std::integral_constant<int, 0>());
  };
  int left = steps * atoms;
  for (; left >= kAtomsOfRun; left -= kAtomsOfRun) run(std::integral_constant<int, kAtomsOfRun>());
  for (; left > 0; --left) run(std::integral_constant<int, 1>());
}

// The same in two halves of the outputs, of stages of one atom. w_offset: of the weights.
template <int kOut, int kAtomsOfRun>
__device__ void add_products_in_halves(TileRing& place, int steps, int x_offset, int w_offset,
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
  for (; steps >= kAtomsOfRun; steps -= kAtomsOfRun)
    run(std::integral_constant<int, kAtomsOfRun>());
  for (; steps > 0; --steps) run(std::integral_constant<int, 1>());
}

}  // namespace narrow::ops::cuda
