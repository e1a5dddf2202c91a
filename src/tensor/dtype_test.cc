#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace narrow {
namespace {

// Every finite value of a small type, by magnitude, with its bits: what "nearest, ties to even" is
// searched in. An oracle that knows no bit tricks.
template <class T, class Bits>
std::vector<std::pair<double, Bits>> magnitudes(Bits count) {
  std::vector<std::pair<double, Bits>> values;
  for (Bits bits = 0; bits < count; ++bits) {
    const double value = to_float(T{bits});
    if (std::isfinite(value)) values.emplace_back(value, bits);
  }
  return values;
}

template <class Bits>
Bits nearest(const std::vector<std::pair<double, Bits>>& values, double magnitude) {
  const auto above =
      std::lower_bound(values.begin(), values.end(), magnitude,
                       [](const auto& item, double wanted) { return item.first < wanted; });
  if (above == values.end()) return values.back().second;
  if (above == values.begin()) return above->second;
  const auto below = above - 1;
  const double up = above->first - magnitude, down = magnitude - below->first;
  if (up != down) return up < down ? above->second : below->second;
  return above->second % 2 == 0 ? above->second : below->second;
}

// Values of each exponent, the ones that decide a rounding among them.
std::vector<float> probes() {
  std::vector<float> values;
  std::mt19937 random(3);
  for (uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (uint32_t tail : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xfffu, 0x1000u, 0x1001u, 0x7ffffu,
                          0x80000u, 0x80001u, 0x3fffffu, 0x400000u, 0x400001u, 0x7fffffu})
      values.push_back(std::bit_cast<float>(exponent << 23 | tail));
    for (int i = 0; i < 40; ++i)
      values.push_back(
          std::bit_cast<float>(exponent << 23 | static_cast<uint32_t>(random() & 0x7fffffu)));
  }
  return values;
}

TEST(DType, Bf16WidensAndReturnsForEveryBitPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const bf16 value{static_cast<uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(to_bf16(wide))));
    } else {
      EXPECT_EQ(to_bf16(wide).bits, bits);
    }
  }
}

TEST(DType, Bf16RoundsToNearestEven) {
  const auto values = magnitudes<bf16>(uint16_t{0x7f80});
  const double largest = values.back().first;
  for (float probe : probes()) {
    const uint16_t got = to_bf16(probe).bits;
    const uint16_t wanted = probe >= largest * (1 + 0x1p-9) ? 0x7f80 : nearest(values, probe);
    ASSERT_EQ(got, wanted) << probe;
    ASSERT_EQ(to_bf16(-probe).bits, wanted | 0x8000u) << probe;
  }
}

TEST(DType, F16WidensAndReturnsForEveryBitPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float wide = to_float(f16{static_cast<uint16_t>(bits)});
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(wide) && std::isnan(to_float(to_f16(wide))));
      continue;
    }
    double value = exponent == 31  ? std::numeric_limits<double>::infinity()
                   : exponent == 0 ? std::ldexp(fraction, -24)
                                   : std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
    if (bits & 0x8000) value = -value;
    EXPECT_EQ(wide, value);
    EXPECT_EQ(to_f16(wide).bits, bits);
  }
}

TEST(DType, F16RoundsToNearestEven) {
  const auto values = magnitudes<f16>(uint16_t{0x7c00});
  for (float probe : probes()) {
    const uint16_t wanted = probe >= 65520 ? 0x7c00 : nearest(values, probe);
    ASSERT_EQ(to_f16(probe).bits, wanted) << probe;
    ASSERT_EQ(to_f16(-probe).bits, wanted | 0x8000u) << probe;
  }
}

TEST(DType, E4m3WidensAndReturnsForEveryBitPattern) {
  for (uint32_t bits = 0; bits < 256; ++bits) {
    const float wide = to_float(f8_e4m3{static_cast<uint8_t>(bits)});
    const uint32_t exponent = bits >> 3 & 15, fraction = bits & 7;
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(wide));
      EXPECT_EQ(to_f8_e4m3(wide).bits & 0x7f, 0x7f);
      continue;
    }
    double value = exponent == 0 ? std::ldexp(fraction, -9)
                                 : std::ldexp(8 + fraction, static_cast<int>(exponent) - 10);
    if (bits & 0x80) value = -value;
    EXPECT_EQ(wide, value);
    EXPECT_EQ(to_f8_e4m3(wide).bits, bits);
  }
}

TEST(DType, E4m3RoundsToNearestEvenAndClamps) {
  const auto values = magnitudes<f8_e4m3>(uint8_t{0x7f});
  ASSERT_EQ(values.back().first, 448);
  for (float probe : probes()) {
    const uint8_t wanted = probe >= 448 ? 0x7e : nearest(values, probe);
    ASSERT_EQ(to_f8_e4m3(probe).bits, wanted) << probe;
    ASSERT_EQ(to_f8_e4m3(-probe).bits, wanted | 0x80u) << probe;
  }
  EXPECT_EQ(to_f8_e4m3(std::numeric_limits<float>::infinity()).bits, 0x7e);
}

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_EQ(size_of(DType::i64), 8);
  EXPECT_EQ(name_of(DType::f8_e4m3), "f8_e4m3");
}

}  // namespace
}  // namespace narrow
