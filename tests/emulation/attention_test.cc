// Attention of walked rows, of rows in pieces, of prompts and of heads of any size, on Hopper and
// on other devices, on the host: rows against the formula, and of the first three with the same
// bits however memory is cut and whether a row is walked, is taken in pieces or stands in a
// prompt's tile.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "emulation/block.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/portable.h"
#include "tensor/dtype.h"

namespace narrow::ops::cuda {

namespace {
int processors_there, memory_there;
}  // namespace
int processors() { return processors_there; }
int shared_memory_of_processor() { return memory_there; }

namespace {

struct Shape {
  int heads, kv_heads, head_dim;
  float scale;
  bool e4m3;
};

float number(const bf16& value) { return to_float(value); }
float number(uint8_t code) { return to_float(f8_e4m3{code}); }
void store(float value, bf16& to) { to = to_bf16(value); }
void store(float value, uint8_t& to) { to = to_f8_e4m3(value).bits; }

// Rows of sequences of their own that see `visible` tokens each. No number stands behind the last.
template <class Kv>
struct Rows {
  Shape shape;
  std::vector<int32_t> visible, row, table_at, table;
  std::vector<bf16> qkv;
  std::vector<Kv> cache;
  int blocks_each;

  Rows(const Shape& of, std::vector<int32_t> tokens) : shape(of), visible(std::move(tokens)) {
    const int rows = static_cast<int>(visible.size());
    blocks_each = *std::max_element(visible.begin(), visible.end()) / 16 + 1;
    std::mt19937 engine(5);
    std::normal_distribution<float> normal(0, 1);
    qkv.resize(static_cast<size_t>(rows * width()));
    for (bf16& value : qkv) value = to_bf16(normal(engine));
    row.resize(visible.size());
    std::iota(row.rbegin(), row.rend(), 0);
    table.resize(static_cast<size_t>(rows * blocks_each));
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), engine);
    cache.resize(table.size() * 2 * static_cast<size_t>(shape.kv_heads * 16 * shape.head_dim));
    for (int r = 0; r < rows; ++r) {
      table_at.push_back(r * blocks_each);
      for (int token = 0; token < 16 * blocks_each; ++token)
        for (int side = 0; side < 2; ++side)
          for (int head = 0; head < shape.kv_heads; ++head)
            for (int d = 0; d < shape.head_dim; ++d) {
              const float value = normal(engine);
              store(token < visible[static_cast<size_t>(r)] ? value : NAN,
                    *at(r, side, head, token, d));
            }
    }
  }
  int64_t width() const { return (shape.heads + 2 * shape.kv_heads) * shape.head_dim; }
  Kv* at(int r, int side, int head, int token, int d) {
    const int64_t block = table[static_cast<size_t>(r * blocks_each + token / 16)];
    return cache.data() +
           ((block * 2 + side) * shape.kv_heads * 16 + head * 16 + token % 16) * shape.head_dim + d;
  }
  AttentionLayer layer() {
    return {.heads = shape.heads,
            .kv_heads = shape.kv_heads,
            .head_dim = shape.head_dim,
            .scale = shape.scale,
            .kv = cache.data(),
            .e4m3 = shape.e4m3,
            .blocks = static_cast<int64_t>(table.size())};
  }
  DeviceBatch batch() {
    DeviceBatch of;
    of.single_row = row.data();
    of.single_table = table_at.data();
    of.single_visible = visible.data();
    of.block_table = table.data();
    of.rows = of.singles = static_cast<int>(visible.size());
    of.chunks = pieces_of(*std::max_element(visible.begin(), visible.end()));
    return of;
  }
  std::vector<bf16> nothing() const {
    return std::vector<bf16>(visible.size() * static_cast<size_t>(shape.heads * shape.head_dim));
  }
  std::vector<bf16> walked() {
    std::vector<bf16> out = nothing();
    walk_attention(batch(), layer(), qkv.data(), out.data(), nullptr);
    return out;
  }
  std::vector<bf16> of_any_size() {
    std::vector<bf16> out = nothing();
    simple_attention(batch(), layer(), qkv.data(), out.data(), nullptr);
    return out;
  }
  // Twice: who counts pieces leaves the counters as they were.
  std::vector<bf16> in_pieces() {
    std::vector<bf16> out;
    std::vector<float> workspace(
        static_cast<size_t>(decode_workspace_bytes(layer(), batch().singles, batch().chunks)) /
        sizeof(float));
    std::vector<uint32_t> counters(visible.size() * static_cast<size_t>(shape.kv_heads));
    for (int time = 0; time < 2; ++time) {
      out = nothing();
      decode_attention(batch(), layer(), qkv.data(), out.data(), workspace.data(), counters.data(),
                       nullptr);
    }
    return out;
  }
  // The largest error of a head's numbers, in parts of the largest of them.
  double worst(const std::vector<bf16>& out) {
    double result = 0;
    for (int r = 0; r < static_cast<int>(visible.size()); ++r)
      for (int head = 0; head < shape.heads; ++head) {
        const int tokens = visible[static_cast<size_t>(r)], dims = shape.head_dim;
        const int kv_head = head / (shape.heads / shape.kv_heads);
        const bf16* query =
            qkv.data() + row[static_cast<size_t>(r)] * width() + head * shape.head_dim;
        std::vector<double> expected(static_cast<size_t>(dims));
        double sum = 0;
        for (int token = 0; token < tokens; ++token) {
          double score = 0;
          for (int d = 0; d < dims; ++d)
            score += to_float(query[d]) * number(*at(r, 0, kv_head, token, d));
          const double weight = std::exp(score * shape.scale);
          sum += weight;
          for (int d = 0; d < dims; ++d)
            expected[static_cast<size_t>(d)] += weight * number(*at(r, 1, kv_head, token, d));
        }
        double largest = tokens == 0 ? 1 : 0, error = 0;
        for (int d = 0; d < dims; ++d) {
          const double value = tokens == 0 ? 0 : expected[static_cast<size_t>(d)] / sum;
          const double got = to_float(out[static_cast<size_t>(
              (row[static_cast<size_t>(r)] * shape.heads + head) * dims + d)]);
          largest = std::max(largest, std::fabs(value));
          error = std::max(error, std::isnan(got) ? 1 : std::fabs(got - value));
        }
        result = std::max(result, error / largest);
      }
    return result;
  }
};

bool same_bits(const std::vector<bf16>& one, const std::vector<bf16>& other) {
  return one.size() == other.size() &&
         std::memcmp(one.data(), other.data(), one.size() * sizeof(bf16)) == 0;
}

template <class Kv>
void walk_in_any_memory(const Shape& shape) {
  Rows<Kv> rows(shape, {0, 1, 15, 16, 63, 64, 65, 128, 129, 192, 193, 257, 330, 513, 1100, 0});
  std::vector<bf16> first;
  // Shared memory of Hopper, of an A100 and of Ada; from one block for each processor to all on
  // one.
  for (const int memory : {228 << 10, 164 << 10, 100 << 10})
    for (const int processors : {132, 5, 1}) {
      memory_there = memory;
      processors_there = processors;
      const std::vector<bf16> out = rows.walked();
      if (first.empty()) first = out;
      EXPECT_LT(rows.worst(out), 1e-2);
      EXPECT_TRUE(same_bits(out, first)) << memory << " bytes, " << processors << " processors";
    }
  EXPECT_TRUE(same_bits(rows.in_pieces(), first)) << "in pieces";
}

TEST(Attention, OfWalkedRowsIsTheFormulaInAnyMemory) {
  for (const auto& [heads, kv_heads] : {std::pair{6, 2}, {16, 1}})
    for (const int head_dim : {64, 128}) {
      walk_in_any_memory<bf16>({heads, kv_heads, head_dim, 0.1f, false});
      walk_in_any_memory<uint8_t>({heads, kv_heads, head_dim, 0.1f, true});
    }
}

TEST(Attention, OfHeadsOfAnySizeIsTheFormula) {
  for (const auto& [heads, kv_heads, head_dim] :
       {std::tuple{3, 3, 8}, {6, 2, 40}, {17, 1, 128}, {2, 1, 256}}) {
    const std::vector<int32_t> visible = {0, 1, 16, 40, 17};
    Rows<bf16> rows({heads, kv_heads, head_dim, 0.1f, false}, visible);
    EXPECT_LT(rows.worst(rows.of_any_size()), 1e-2) << heads << " heads of " << head_dim;
    Rows<uint8_t> of_codes({heads, kv_heads, head_dim, 0.1f, true}, visible);
    EXPECT_LT(of_codes.worst(of_codes.of_any_size()), 1e-2) << heads << " heads of " << head_dim;
  }
}

template <class Kv>
void prompt_and_walks(const Shape& shape, int before) {
  // A prompt of 32 rows that sees `before` tokens before it, as rows of one sequence.
  constexpr int kRows = kPrefillRows;
  Rows<Kv> last(shape, {before + kRows});
  std::mt19937 engine(6);
  std::normal_distribution<float> normal(0, 1);
  last.qkv.resize(static_cast<size_t>(kRows * last.width()));
  for (bf16& value : last.qkv) value = to_bf16(normal(engine));
  const std::vector<int32_t> zeros(kRows, 0), tile_rows{kRows}, tile_visible{before + 1};
  std::vector<int32_t> row(kRows), visible(kRows);
  std::iota(row.begin(), row.end(), 0);
  std::iota(visible.begin(), visible.end(), before + 1);
  DeviceBatch batch;
  batch.block_table = last.table.data();
  batch.rows = kRows;
  DeviceBatch singles = batch;
  batch.tile_row = batch.tile_table = zeros.data();
  batch.tile_rows = tile_rows.data();
  batch.tile_visible = tile_visible.data();
  batch.tiles = 1;
  singles.single_row = row.data();
  singles.single_table = zeros.data();
  singles.single_visible = visible.data();
  singles.singles = kRows;
  std::vector<bf16> tile(kRows * static_cast<size_t>(shape.heads * shape.head_dim)), walked = tile;
  portable_prefill_attention(batch, last.layer(), last.qkv.data(), tile.data(), nullptr);
  walk_attention(singles, last.layer(), last.qkv.data(), walked.data(), nullptr);
  EXPECT_TRUE(same_bits(tile, walked)) << shape.heads << " heads of " << shape.head_dim;
  // Hopper's: a block has one part, or several.
  for (const int processors : {132, 1}) {
    processors_there = processors;
    std::fill(tile.begin(), tile.end(), bf16{});
    prefill_attention(batch, last.layer(), last.qkv.data(), tile.data(), nullptr);
    EXPECT_TRUE(same_bits(tile, walked))
        << shape.heads << " heads of " << shape.head_dim << ", " << processors << " processors";
  }
}

TEST(Attention, OfAPromptsRowsHasTheBitsOfTheirWalks) {
  memory_there = 228 << 10;
  processors_there = 132;
  for (const auto& [heads, kv_heads, scale] : {std::tuple{4, 1, 0.1f}, {3, 1, 3.0f}, {14, 2, 0.1f}})
    for (const int head_dim : {64, 128})
      for (const int before : {20, 300}) {  // tokens: parts of one piece, and of more than a ring
        prompt_and_walks<bf16>({heads, kv_heads, head_dim, scale, false}, before);
        prompt_and_walks<uint8_t>({heads, kv_heads, head_dim, scale, true}, before);
      }
}

// What the emulation is there to find.
TEST(Emulation, SeesReadsBeforeCopiesAreThere) {
  const uint64_t from[2] = {1, 2};
  const auto run = [&](bool waits) {
    emulation::run_grid({1, 1, 1}, 64, 64 * 16, [&] {
      const auto mine = static_cast<uint32_t>(emulation::thread_index.x);
      emulation::start_copy(16 * mine, from, true);
      emulation::commit_copies();
      if (waits) emulation::wait_for_copies(0);
      emulation::sync_block();
      uint64_t value = 0;
      emulation::read_shared(16 * (63 - mine), &value, sizeof value);
      if (waits) {
        EXPECT_EQ(value, 1);
      }
      emulation::wait_for_copies(0);
    });
  };
  EXPECT_NO_THROW(run(true));
  EXPECT_THROW(run(false), Error);
}

TEST(Emulation, SeesBarriersThatNotAllReach) {
  const auto run = [](int absent) {
    emulation::run_grid({1, 1, 1}, 64, 16, [&] {
      if (emulation::thread_index.x != absent) emulation::sync_block();
    });
  };
  EXPECT_NO_THROW(run(-1));
  EXPECT_THROW(run(7), Error);
  EXPECT_NO_THROW(run(-1));
}

}  // namespace
}  // namespace narrow::ops::cuda
