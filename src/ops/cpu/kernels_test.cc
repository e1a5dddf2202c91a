#include "ops/cpu/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tensor/dtype.h"

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

// Every e4m3 value, every tie between two and their neighbours in float, both signs.
TEST(QuantizeFp8, RoundsAsTheType) {
  if (usable_kernels().count == 0) GTEST_SKIP() << "no AVX2 here";
  std::vector<float> x;
  for (int code = 0; code < 0x7e; ++code) {
    const float low = to_float(f8_e4m3{static_cast<uint8_t>(code)});
    const float high = to_float(f8_e4m3{static_cast<uint8_t>(code + 1)});
    const float tie = (low + high) / 2;
    for (const float value : {low, tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e9f)})
      for (const float sign : {1.0f, -1.0f}) x.push_back(sign * value);
  }
  x.insert(x.end(), {448, -448, 449, 464, 465, 1e30f, -1e30f, 1e-30f});
  const auto count = static_cast<int64_t>(x.size());
  std::vector<float> got(x.size());
  for (const float scale : {1.0f, 0.37f}) {
    avx2_kernels()->quantize_fp8(x.data(), count, scale, got.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const float clamped = std::clamp(x[i] / scale, -448.0f, 448.0f);
      EXPECT_EQ(std::bit_cast<uint32_t>(got[i]),
                std::bit_cast<uint32_t>(to_float(to_f8_e4m3(clamped))))
          << x[i] << " / " << scale;
    }
  }
}

// Products of small integers are exact in any order: bf16 pairs and tiles must give AVX2's values.
class Tiles : public SameBits {};

TEST_F(Tiles, MultiplyBf16) {
  for (const PanelKind kind : {PanelKind::bf16, PanelKind::fp8, PanelKind::int8, PanelKind::int4}) {
    for (const int64_t inputs : {1, 31, 64, 192, 577}) {
      auto bytes = random<uint8_t>(inputs * 16);
      std::vector<uint16_t> halves(bytes.size());
      for (size_t i = 0; i < bytes.size(); ++i)
        halves[i] = static_cast<uint16_t>(
            std::bit_cast<uint32_t>(static_cast<float>(bytes[i] % 17) - 8) >> 16);
      if (kind == PanelKind::fp8)
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(0x38 + byte % 16);  // 1 to 3.75
      const int64_t group = inputs % 64 == 0 ? 64 : inputs;
      const std::vector<float> scale(static_cast<size_t>(inputs / group * 16), 1);
      const std::vector<float> offset(scale.size(), -8);
      const void* weights = kind == PanelKind::bf16 ? static_cast<const void*>(halves.data())
                                                    : static_cast<const void*>(bytes.data());
      const Panel panel{kind, weights, scale.data(), offset.data(), inputs, group};
      const int64_t stride = (inputs + kTileInputs - 1) / kTileInputs * kTileInputs;
      for (const int64_t rows : {1, 16, 17, 96, 97, 200}) {
        const int64_t padded = (rows + kTileRows - 1) / kTileRows * kTileRows;
        std::vector<float> x(static_cast<size_t>(rows * inputs));
        std::vector<uint16_t> tile_x(static_cast<size_t>(padded * stride));
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t k = 0; k < inputs; ++k) {
            const float value = static_cast<float>((r * 5 + k * 3) % 15) - 7;
            x[static_cast<size_t>(r * inputs + k)] = value;
            tile_x[static_cast<size_t>(r * stride + k)] =
                static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
          }
        std::vector<float> expected(static_cast<size_t>(padded * 16)), got(expected);
        avx2_kernels()->multiply(panel, x.data(), inputs, rows, expected.data(),
                                 scratch<float>(inputs * 16));
        const Implementations usable = usable_kernels();
        for (int k = 0; k < usable.count; ++k) {
          if (!usable.kernels[k]->multiply_bf16) continue;
          usable.kernels[k]->multiply_bf16(panel, tile_x.data(), stride, rows, got.data(),
                                           scratch<std::byte>(stride * 32));
          for (size_t i = 0; i < static_cast<size_t>(rows * 16); ++i)
            ASSERT_EQ(got[i], expected[i])
                << usable.kernels[k]->name << ", kind " << static_cast<int>(kind) << ", " << inputs
                << " inputs, " << rows << " rows, element " << i;
        }
      }
    }
  }
}

TEST_F(Tiles, MultiplyInt8) {
  const Kernels* best = usable_kernels().kernels[0];
  if (!best->multiply_int8_tiles) GTEST_SKIP() << "no AMX here";
  for (const int64_t inputs : {2, 63, 576, 4096}) {
    const int64_t even = (inputs + 1) / 2 * 2;
    const int64_t stride = (inputs + kTileInputs - 1) / kTileInputs * kTileInputs;
    auto weights = random<int8_t>(even * 16);
    for (const int64_t rows : {1, 15, 16, 31, 100}) {
      const int64_t padded = (rows + kTileRows - 1) / kTileRows * kTileRows;
      std::vector<int16_t> x(static_cast<size_t>(rows * even));
      std::vector<int8_t> tile_x(static_cast<size_t>(padded * stride));
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < inputs; ++k) {
          const auto code = static_cast<int8_t>(engine_());
          x[static_cast<size_t>(r * even + k)] = code;
          tile_x[static_cast<size_t>(r * stride + k)] = code;
        }
      std::vector<int32_t> expected(static_cast<size_t>(padded * 16)), got(expected);
      avx2_kernels()->multiply_int8(weights.data(), inputs, x.data(), even, rows, expected.data(),
                                    scratch<int16_t>(even * 16));
      best->multiply_int8_tiles(weights.data(), inputs, tile_x.data(), stride, rows, got.data(),
                                scratch<std::byte>(stride * 32));
      expected.resize(static_cast<size_t>(rows * 16));
      got.resize(expected.size());
      EXPECT_EQ(got, expected) << inputs << " inputs, " << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace narrow::ops::cpu
