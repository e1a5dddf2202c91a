// Products for other devices than Hopper, on the host: against the formula, and a row's bits alone
// and among many, whose kernels are others.
#include <gtest/gtest.h>

#include "emulation/products.h"
#include "ops/cuda/portable.h"

namespace narrow::ops::cuda {
namespace {

using emulation::Bf16, emulation::E4m3, emulation::Int8;

// rows: of the stream of few, and of each tile; with many processors the middle one of three.
template <class X, class W>
void check(void (*multiply)(const Gemm&, cudaStream_t), int64_t in) {
  const auto row_among = [&](int64_t rows, int processors, bool adds = false) {
    emulation::processors = processors;
    emulation::Product<X, W> product({rows, 136, in, false, adds, !adds});
    multiply(product.gemm(), nullptr);
    product.expect_results();
    return product.first_row();
  };
  const std::vector<float> alone = row_among(1, 3);
  EXPECT_EQ(row_among(16, 3), alone);
  EXPECT_EQ(row_among(17, 3), alone);
  EXPECT_EQ(row_among(70, 132), alone);
  EXPECT_EQ(row_among(130, 3), alone);
  row_among(3, 3, /*adds=*/true);
  row_among(65, 132, /*adds=*/true);
}

TEST(PortableProducts, AreTheFormulaAndHaveTheSameBitsAmongMany) {
  for (const int64_t in : {640, 200}) {  // whole chunks or not
    check<Bf16, Bf16>(portable_bf16, in);
    check<Bf16, E4m3>(portable_fp8, in);
  }
  check<Int8, Int8>(portable_int8, 1152);
}

}  // namespace
}  // namespace narrow::ops::cuda
