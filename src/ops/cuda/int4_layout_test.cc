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
