// Products of gemm.cuh on the host, against the formula: their ring of tiles, their barriers, and
// how tiles are written.
#include <gtest/gtest.h>

#include <type_traits>

#include "emulation/products.h"
#include "emulation/tiles.h"
#include "ops/cuda/gemm.cuh"

namespace narrow::ops::cuda {

int processors() { return emulation::processors; }

namespace {

template <MmaType type>
using Numbers =
    std::conditional_t<type == MmaType::bf16, emulation::Bf16,
                       std::conditional_t<type == MmaType::e4m3, emulation::E4m3, emulation::Int8>>;

// Returns the first row of a y in float32.
template <MmaType type, int kConsumers, int kOut, int kAtoms, bool kGated = false,
          bool kAllRows = kConsumers == 1>
std::vector<float> check(int64_t rows, int64_t out, int64_t in, bool adds = false,
                         bool f32 = false) {
  emulation::Product<Numbers<type>, Numbers<type>> product({rows, out, in, kGated, adds, f32});
  launch_gemm<type, kConsumers, kOut, kAtoms, kGated, 1, kAllRows>(product.gemm(), nullptr);
  product.expect_results();
  if (testing::Test::HasFatalFailure())
    ADD_FAILURE() << "type " << static_cast<int>(type) << ", tiles of " << kOut << " outputs";
  return product.first_row();
}

// More inputs than the ring has stages, and fewer; tiles and rows that are not whole; more tiles
// than blocks.
template <MmaType type, int kOut, int kAtoms>
void check_few_rows() {
  constexpr int64_t kStep = type == MmaType::bf16 ? 64 : 128;  // inputs of an atom
  check<type, 1, kOut, kAtoms>(5, kOut + 8, 24 * kStep);
  check<type, 1, kOut, kAtoms>(64, 6 * kOut - 8, 2 * kStep);
  check<type, 1, kOut, kAtoms>(50, 3 * kOut, 11 * kStep, /*adds=*/true);
}

TEST(Products, OfFewRows) {
  check_few_rows<MmaType::bf16, 32, 2>();
  check_few_rows<MmaType::bf16, 48, 1>();
  check_few_rows<MmaType::int8, 32, 2>();
  check_few_rows<MmaType::e4m3, 32, 2>();
  check_few_rows<MmaType::e4m3, 48, 1>();
  check_few_rows<MmaType::e4m3, 64, 1>();
}

TEST(Products, OfManyRows) {
  check<MmaType::bf16, 2, 64, 1>(200, 136, 640);
  check<MmaType::int8, 2, 96, 1>(130, 200, 1408, /*adds=*/true);
  check<MmaType::e4m3, 2, 224, 1>(257, 232, 1280);
  // Several tiles of up to 64 rows: of 48, behind which those of the next one lie, and whole ones.
  check<MmaType::bf16, 1, 64, 1, false, false>(90, 136, 640);
  check<MmaType::e4m3, 1, 64, 1, false, false>(140, 136, 1280, /*adds=*/true);
  check<MmaType::e4m3, 1, 64, 1, false, false>(120, 136, 1280);
}

template <MmaType type, int kWide>
void check_bits() {
  const std::vector<float> alone = check<type, 1, 32, 2>(1, 200, 1280, false, /*f32=*/true);
  EXPECT_EQ((check<type, 2, kWide, 1>(70, 200, 1280, false, /*f32=*/true)), alone);
}

// Pairs of blocks with half of the inputs each.
TEST(Products, OfManyInputsAreSharedByTwoBlocks) {
  emulation::processors = 132;
  for (const int64_t rows : {65, 128})
    for (const bool adds : {false, true}) {
      emulation::Product<emulation::Int8, emulation::Int8> product({rows, 136, 8320, false, adds});
      ASSERT_TRUE(split_int8(product.gemm(), nullptr));
      product.expect_results();
    }
  emulation::processors = 3;
}

TEST(Products, OfARowHaveTheSameBitsAmongMany) {
  check_bits<MmaType::bf16, 64>();
  check_bits<MmaType::e4m3, 96>();
}

TEST(Products, WithTheActivationFindTheLargestOfEachRow) {
  check<MmaType::bf16, 1, 64, 1, true>(20, 104, 192);
  check<MmaType::int8, 1, 64, 2, true>(33, 136, 512);
  check<MmaType::e4m3, 1, 64, 2, true>(64, 72, 768);
  check<MmaType::int8, 2, 128, 1, true>(150, 100, 256);
  check<MmaType::e4m3, 2, 128, 1, true>(130, 104, 1152);
}

}  // namespace
}  // namespace narrow::ops::cuda
