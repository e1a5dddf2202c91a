#include "tensor/packed_linear.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace narrow {
namespace {

Tensor random_codes(int64_t rows, int64_t cols, int bits, uint32_t seed) {
  std::mt19937 random(seed);
  Tensor codes(DType::i8, {rows, cols});
  for (int8_t& code : codes.as<int8_t>())
    code = static_cast<int8_t>(static_cast<int>(random() % (1u << bits)) - (1 << (bits - 1)));
  return codes;
}

PackedLinear packed(const Tensor& codes, int bits) {
  PackedLinear linear;
  linear.scheme = scheme_of_format("w4a16-int", 32);
  linear.scheme.weights->bits = bits;
  linear.out = codes.dim(0);
  linear.in = codes.dim(1);
  linear.weight = pack_codes(codes, bits);
  return linear;
}

TEST(PackedLinear, EveryWidthAndLengthComesBack) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (int64_t cols : {1, 2, 7, 10, 11, 31, 32, 33, 64, 172}) {
      const Tensor codes = random_codes(3, cols, bits, static_cast<uint32_t>(bits * 1000 + cols));
      const PackedLinear linear = packed(codes, bits);
      EXPECT_EQ(linear.weight.dim(1), (cols * bits + 31) / 32);
      const Tensor back = unpack_codes(linear);
      EXPECT_TRUE(std::ranges::equal(back.as<int8_t>(), codes.as<int8_t>()))
          << bits << " bits, " << cols << " columns";
    }
  }
}

TEST(PackedLinear, FirstElementIsInTheLowestBits) {
  Tensor codes(DType::i8, {1, 11});
  codes.as<int8_t>()[0] = 3;    // u = 7
  codes.as<int8_t>()[10] = -2;  // u = 2, bits 30..32: crosses into the second word
  for (int i = 1; i < 10; ++i) codes.as<int8_t>()[static_cast<size_t>(i)] = -4;  // u = 0
  const Tensor words = pack_codes(codes, 3);
  ASSERT_EQ(words.elements(), 2);
  EXPECT_EQ(static_cast<uint32_t>(words.as<int32_t>()[0]), 7u | 2u << 30);
  EXPECT_EQ(words.as<int32_t>()[1], 0);
}

TEST(PackedLinear, DequantizeRoundsTheProductToTheScalesType) {
  PackedLinear linear = packed(random_codes(2, 64, 4, 5), 4);
  linear.scheme.weights->symmetric = false;
  Tensor scale(DType::f32, {2, 2});
  const float scales[] = {0.011f, 0.37f, 1.9f, 0.0025f};
  std::ranges::copy(scales, scale.as<float>().begin());
  linear.zero_point = random_codes(2, 2, 4, 6);
  const Tensor codes = unpack_codes(linear);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    linear.scale = scale.to(dtype);
    const Tensor result = dequantize(linear);
    for (int64_t r = 0; r < 2; ++r) {
      for (int64_t c = 0; c < 64; ++c) {
        const float s = linear.scale.to(DType::f32).matrix<float>()(r, c / 32);
        const int code =
            codes.matrix<int8_t>()(r, c) - linear.zero_point.matrix<int8_t>()(r, c / 32);
        Tensor exact(DType::f32, {1});
        exact.as<float>()[0] = static_cast<float>(code) * s;
        EXPECT_EQ(result.matrix<float>()(r, c), exact.to(dtype).to(DType::f32).as<float>()[0]);
      }
    }
  }
}

TEST(PackedLinear, GroupIndexChoosesTheScale) {
  PackedLinear linear = packed(random_codes(1, 64, 4, 9), 4);
  linear.scale = Tensor(DType::f32, {1, 2});
  linear.scale.as<float>()[0] = 1;
  linear.scale.as<float>()[1] = 100;
  linear.group_index = Tensor(DType::i32, {64});
  for (size_t c = 0; c < 64; ++c) linear.group_index.as<int32_t>()[c] = static_cast<int32_t>(c % 2);
  const Tensor codes = unpack_codes(linear);
  const Tensor result = dequantize(linear);
  for (size_t c = 0; c < 64; ++c)
    EXPECT_EQ(result.as<float>()[c], static_cast<float>(codes.as<int8_t>()[c]) * (c % 2 ? 100 : 1));
}

TEST(Scheme, NamedFormats) {
  EXPECT_TRUE(scheme_of_format("bf16").dense());
  const Scheme fp8 = scheme_of_format("w8a8-fp");
  EXPECT_EQ(fp8.weights->type, QuantArgs::Type::floating);
  EXPECT_EQ(fp8.inputs->strategy, QuantArgs::Strategy::token);
  EXPECT_TRUE(fp8.inputs->dynamic);
  EXPECT_FALSE(scheme_of_format("w4a16-awq").weights->symmetric);
  EXPECT_EQ(scheme_of_format("w4a16-int", 64).weights->group_size, 64);
  EXPECT_THROW(scheme_of_format("w4"), Error);
  EXPECT_THROW(scheme_of_format("w4a16-int", 0), Error);
}

TEST(Scheme, BitsPerWeightCountScalesAndZeroPoints) {
  EXPECT_EQ(bits_per_weight(scheme_of_format("bf16"), 4096), 16);
  EXPECT_EQ(bits_per_weight(scheme_of_format("w4a16-int", 64), 4096), 4.25);
  EXPECT_EQ(bits_per_weight(scheme_of_format("w4a16-int", 128), 4096), 4.125);
  EXPECT_EQ(bits_per_weight(scheme_of_format("w4a16-awq", 128), 4096), 4 + 20.0 / 128);
  EXPECT_EQ(bits_per_weight(scheme_of_format("w8a8-int"), 4096), 8 + 16.0 / 4096);
}

}  // namespace
}  // namespace narrow
