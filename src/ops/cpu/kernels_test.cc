#include "ops/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace narrow::ops::cpu {
namespace {

// Every implementation that this processor runs must give the bits of AVX2. A machine that has
// only one has nothing to compare; the test says so.
class SameBits : public testing::Test {
 protected:
  void SetUp() override {
    if (usable_kernels().count < 2) GTEST_SKIP() << "only one instruction set here";
  }

  template <class T>
  std::vector<T> random(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    if constexpr (std::is_same_v<T, float>) {
      std::normal_distribution<float> normal;
      for (T& value : values) value = normal(engine_);
    } else {
      for (T& value : values) value = static_cast<T>(engine_());
    }
    return values;
  }

  // Aligned as the kernels want their scratch.
  template <class T>
  T* scratch(int64_t count) {
    scratch_.resize(static_cast<size_t>(count) * sizeof(T) + 64);
    const auto address = reinterpret_cast<uintptr_t>(scratch_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

  std::mt19937 engine_{7};
  std::vector<std::byte> scratch_;
};

TEST_F(SameBits, Multiply) {
  const Implementations usable = usable_kernels();
  for (const PanelKind kind :
       {PanelKind::f32, PanelKind::bf16, PanelKind::fp8, PanelKind::int8, PanelKind::int4}) {
    for (const int64_t inputs : {64, 192, 576}) {
      auto floats = random<float>(inputs * 16);
      auto bytes = random<uint8_t>(inputs * 16);
      for (uint8_t& byte : bytes)
        if ((byte & 0x7f) == 0x7f) byte = 0;  // no NaN of e4m3
      std::vector<uint16_t> halves(floats.size());
      for (size_t i = 0; i < halves.size(); ++i) {
        uint32_t bits;
        std::memcpy(&bits, &floats[i], 4);
        halves[i] = static_cast<uint16_t>(bits >> 16);
      }
      const int64_t group = 64;
      const auto scale = random<float>(inputs / group * 16);
      const auto offset = random<float>(inputs / group * 16);
      const void* weights = kind == PanelKind::f32    ? static_cast<const void*>(floats.data())
                            : kind == PanelKind::bf16 ? static_cast<const void*>(halves.data())
                                                      : static_cast<const void*>(bytes.data());
      const Panel panel{kind, weights, scale.data(), offset.data(), inputs, group};
      for (const int64_t rows : {1, 2, 3, 4, 5, 13, 14, 15, 29, 64}) {
        const auto x = random<float>(rows * inputs);
        std::vector<float> expected(static_cast<size_t>(rows * 16)), got(expected);
        avx2_kernels()->multiply(panel, x.data(), inputs, rows, expected.data(),
                                 scratch<float>(inputs * 16));
        for (int i = 0; i < usable.count; ++i) {
          usable.kernels[i]->multiply(panel, x.data(), inputs, rows, got.data(),
                                      scratch<float>(inputs * 16));
          EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * 4), 0)
              << usable.kernels[i]->name << ", kind " << static_cast<int>(kind) << ", " << inputs
              << " inputs, " << rows << " rows";
        }
      }
    }
  }
}

TEST_F(SameBits, MultiplyInt8) {
  const Implementations usable = usable_kernels();
  for (const int64_t inputs : {2, 63, 576, 4096}) {
    const int64_t even = (inputs + 1) / 2 * 2;
    const auto weights = random<int8_t>(even * 16);
    for (const int64_t rows : {1, 2, 7, 14, 15, 31}) {
      auto x = random<int16_t>(rows * even);
      for (int16_t& code : x) code = static_cast<int8_t>(code);
      std::vector<int32_t> expected(static_cast<size_t>(rows * 16)), got(expected);
      avx2_kernels()->multiply_int8(weights.data(), inputs, x.data(), even, rows, expected.data(),
                                    scratch<int16_t>(even * 16));
      for (int i = 0; i < usable.count; ++i) {
        usable.kernels[i]->multiply_int8(weights.data(), inputs, x.data(), even, rows, got.data(),
                                         scratch<int16_t>(even * 16));
        EXPECT_EQ(got, expected) << usable.kernels[i]->name << ", " << inputs << " inputs, " << rows
                                 << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace narrow::ops::cpu
