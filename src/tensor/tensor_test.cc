#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

// Below and above the size from which memory comes from the system directly, and odd ones.
constexpr int64_t kSizes[] = {1, 63, 4096, (int64_t{4} << 20) - 1, (int64_t{5} << 20) + 3};

TEST(Tensor, IsZerosUnlessItIsUnfilled) {
  for (const int64_t size : kSizes) {
    const Tensor zeros(DType::u8, {size});
    const auto bytes = zeros.raw();
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) {
      return byte == std::byte{0};
    })) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(zeros.data()) % 64, 0u) << size;
  }
}

TEST(Tensor, UnfilledOnesHoldWhatIsWritten) {
  for (const int64_t size : kSizes) {
    const Tensor bytes = Tensor::unfilled(DType::u8, {size});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0u) << size;
    const Tensor zeros(DType::u8, {size});
    for (Tensor tensor : {bytes, zeros}) {
      for (int64_t i = 0; i < size; ++i) tensor.data()[i] = static_cast<std::byte>(i * 7);
      const Tensor copy = tensor.clone();
      for (int64_t i = 0; i < size; ++i)
        ASSERT_EQ(copy.data()[i], static_cast<std::byte>(i * 7)) << size << ", byte " << i;
    }
  }
}

TEST(Tensor, ThatNoMemoryHoldsIsAnError) {
  EXPECT_THROW(Tensor(DType::u8, {int64_t{1} << 60}), Error);
  EXPECT_THROW(Tensor::unfilled(DType::u8, {int64_t{1} << 60}), Error);
}

}  // namespace
}  // namespace narrow
