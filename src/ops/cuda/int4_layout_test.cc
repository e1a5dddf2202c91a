// The order of columns in 4-bit weights; needs no device.
#include "ops/cuda/int4_layout.h"

#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size_bytes() == b.size_bytes() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size_bytes())) == 0;
}

// The layer whose columns stand in this order, of which each group's are side by side.
PackedLinear moved(const PackedLinear& linear, const std::vector<int32_t>& columns) {
  PackedLinear result = linear;
  result.group_index = {};
  const Tensor codes = unpack_codes(linear);
  Tensor to(DType::i8, {linear.out, linear.in});
  for (int64_t r = 0; r < linear.out; ++r)
    for (int64_t c = 0; c < linear.in; ++c)
      to.matrix<int8_t>()(r, c) = codes.matrix<int8_t>()(r, columns[static_cast<size_t>(c)]);
  result.weight = pack_codes(to, 4);
  return result;
}

// 2 to this power, as units of nibbles and scales have it (int4.cuh).
constexpr int kUnit = -133;

// What the kernels make of the chunks: the weight of (row, column), rounded once.
float weight_of(const cuda::Int4Layout& layout, int64_t row, int64_t column) {
  const int64_t groups = cuda::kInt4Inputs / layout.group, group_words = cuda::kInt4GroupBytes / 4;
  const int64_t words = cuda::kInt4WordBytes / 4;
  const int64_t chunk_words = words + groups * group_words * (layout.offsets ? 2 : 1);
  const auto* chunk = reinterpret_cast<const uint32_t*>(layout.chunks.data()) +
                      (row / cuda::kInt4Outs * (layout.in_padded / cuda::kInt4Inputs) +
                       column / cuda::kInt4Inputs) *
                          chunk_words;
  const int64_t warp = row % cuda::kInt4Outs / 16, half = row % 16 / 8, g = row % 8;
  const int64_t step = column % cuda::kInt4Inputs / 16, e = column % 16;
  const uint32_t word =
      chunk[step / 4 * words / 2 + (32 * warp + 4 * g + e % 8 / 2) * 4 + step % 4];
  const int64_t nibble = half + e / 8 * 2 + e % 2 * 4;
  const float units = static_cast<float>((word >> 4 * nibble & 15) << 4 * half);
  const uint32_t* scales =
      chunk + words + column % cuda::kInt4Inputs / layout.group * group_words + warp * 8 + g;
  const auto half_of = [half](uint32_t pair) {
    return static_cast<uint16_t>(half == 0 ? pair : pair >> 16);
  };
  const float scale = to_float(bf16{half_of(scales[0])});
  const float offset = layout.offsets ? static_cast<float>(half_of(scales[groups * group_words]))
                                      : static_cast<float>(8 << 4 * half);
  const float exact = std::ldexp(units - offset, kUnit) * scale;  // 5 bits times 8
  return to_float(to_bf16(exact)) * layout.factors[static_cast<size_t>(row)];
}

TEST(Int4Layout, HasTheWeightsOfAllBackends) {
  ThreadPool pool(2);
  for (const char* format : {"w4a16-int", "w4a16-awq"})
    for (const int64_t in : {576, 256})
      for (const int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, in}) {
        if (in % group != 0) continue;
        PackedLinear packed = layer(format, 72, in, group, false);
        // Outputs with scales of very different sizes, of which one has none at all.
        const int64_t groups = packed.scale.elements() / packed.out;
        const auto scales = packed.scale.as<bf16>();
        for (size_t i = 0; i < scales.size(); ++i) {
          const int row = static_cast<int>(static_cast<int64_t>(i) / groups);
          scales[i] = to_bf16(row == 5 ? 0 : std::ldexp(to_float(scales[i]), 3 * (row % 30) - 40));
        }
        const cuda::Int4Layout layout = cuda::make_int4_layout(packed, pool);
        const Tensor expected = dequantize(packed);
        for (int64_t r = 0; r < packed.out; ++r)
          for (int64_t c = 0; c < in; ++c)
            ASSERT_EQ(weight_of(layout, r, c), expected.matrix<float>()(r, c))
                << format << " group " << group << ", " << r << ", " << c;
      }
}

TEST(Int4Layout, MakesAScaleThatIsNoNumberOneOfItsOutput) {
  ThreadPool pool(2);
  PackedLinear packed = layer("w4a16-int", 64, 256, 128, false);
  packed.scale.as<bf16>()[6] = to_bf16(INFINITY);  // of output 3
  const cuda::Int4Layout layout = cuda::make_int4_layout(packed, pool);
  for (int64_t r = 0; r < 64; ++r)
    EXPECT_EQ(std::isnan(weight_of(layout, r, 0)), r == 3) << "output " << r;
}

TEST(Int4Layout, BringsColumnsIntoTheOrderOfTheirGroups) {
  ThreadPool pool(2);
  for (const char* format : {"w4a16-int", "w4a16-awq"})
    for (const int64_t in : {768, 576})
      for (const int64_t group : {32, 64, 128, 256}) {
        if (in % group != 0) continue;
        PackedLinear shuffled = layer(format, 72, in, group, false);
        shuffle_groups(shuffled);
        ASSERT_TRUE(cuda::runs_as_int4(shuffled));
        const cuda::Int4Layout layout = cuda::make_int4_layout(shuffled, pool);
        ASSERT_EQ(layout.columns.size(), static_cast<size_t>(in));
        const auto groups = shuffled.group_index.as<int32_t>();
        for (size_t k = 0; k < layout.columns.size(); ++k) {
          const auto place = static_cast<int64_t>(k);
          ASSERT_EQ(groups[static_cast<size_t>(layout.columns[k])], place / group);
          if (place % group != 0) {
            ASSERT_LT(layout.columns[k - 1], layout.columns[k]);
          }
        }
        const PackedLinear plain = moved(shuffled, layout.columns);
        const cuda::Int4Layout expected = cuda::make_int4_layout(plain, pool);
        EXPECT_TRUE(expected.columns.empty());
        EXPECT_TRUE(same_bytes(layout.chunks, expected.chunks))
            << format << ", " << in << " inputs, group " << group;
        // The values that `reference` has: as many of them at their new places.
        const Tensor values = dequantize(shuffled), there = dequantize(plain);
        for (int64_t r = 0; r < plain.out; ++r)
          for (int64_t c = 0; c < in; ++c)
            ASSERT_EQ(there.matrix<float>()(r, c),
                      values.matrix<float>()(r, layout.columns[static_cast<size_t>(c)]));
      }
}

TEST(Int4Layout, LeavesColumnsThatStandByGroupsAlready) {
  ThreadPool pool(2);
  const PackedLinear plain = layer("w4a16-awq", 64, 512, 128, false);
  PackedLinear indexed = plain;
  shuffle_groups(indexed);
  const auto groups = indexed.group_index.as<int32_t>();
  std::sort(groups.begin(), groups.end());
  ASSERT_TRUE(cuda::runs_as_int4(indexed));
  const cuda::Int4Layout layout = cuda::make_int4_layout(indexed, pool);
  EXPECT_TRUE(layout.columns.empty());
  EXPECT_TRUE(same_bytes(layout.chunks, cuda::make_int4_layout(plain, pool).chunks));
}

TEST(Int4Layout, RefusesGroupsOfUnequalSizes) {
  PackedLinear packed = layer("w4a16-int", 64, 512, 128, false);
  shuffle_groups(packed);
  const auto groups = packed.group_index.as<int32_t>();
  *std::find(groups.begin(), groups.end(), 3) = 0;
  EXPECT_FALSE(cuda::runs_as_int4(packed));
}

}  // namespace
}  // namespace narrow::ops
