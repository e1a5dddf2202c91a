// The decoder on stories260K: what is asked of a step decides what is computed, not what comes out.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "checkpoint/checkpoint.h"

namespace narrow::model {
namespace {

// Three prompts in one step, behind what each has in the cache: of 20, 3 and 1 tokens.
ops::Batch three_prompts() {
  ops::Batch batch;
  int32_t block = 0;
  for (const auto& [rows, context] : {std::pair<int64_t, int64_t>{20, 20}, {3, 19}, {1, 17}}) {
    ops::Batch::Sequence sequence;
    sequence.first_row = batch.rows();
    sequence.rows = rows;
    sequence.context = context;
    for (int64_t tokens = 0; tokens < context; tokens += ops::kKvBlockTokens)
      sequence.blocks.push_back(block++);
    for (int64_t position = context - rows; position < context; ++position) {
      batch.tokens.push_back(static_cast<int32_t>(7 + 13 * batch.rows() % 400));
      batch.positions.push_back(static_cast<int32_t>(position));
    }
    batch.sequences.push_back(std::move(sequence));
  }
  return batch;
}

class DecoderTest : public testing::TestWithParam<std::string> {};

TEST_P(DecoderTest, LogitsAreTheSameWhicheverRowsAreAskedFor) {
  const auto checkpoint =
      checkpoint::open(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k");
  const auto backend = ops::make_backend(GetParam(), 2);
  Decoder decoder(*checkpoint, *backend);
  const int64_t vocabulary = decoder.config().vocabulary;
  // Logits of `rows`, and those of the token after each prompt, which see all keys and values.
  const auto run = [&](std::vector<int32_t> rows) {
    KvCache kv(decoder.config(), *backend, 6);
    std::vector<float> logits;
    const auto take = [&](View<const float> from) {
      logits.insert(logits.end(), from.data, from.data + from.rows * from.cols);
    };
    const ops::Batch batch = three_prompts();
    take(decoder.forward(batch, kv, rows));
    ops::Batch next;
    for (const ops::Batch::Sequence& sequence : batch.sequences) {
      next.tokens.push_back(5);
      next.positions.push_back(static_cast<int32_t>(sequence.context));
      next.sequences.push_back({next.rows() - 1, 1, sequence.context + 1, sequence.blocks});
    }
    take(decoder.forward(next, kv, std::vector<int32_t>{0, 1, 2}));
    return logits;
  };
  std::vector<int32_t> all(24);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<float> whole = run(all);
  for (const std::vector<int32_t>& rows :
       {std::vector<int32_t>{}, {19, 22, 23}, {0}, {4, 5, 6, 19, 20}, {23, 2, 1}}) {
    const std::vector<float> some = run(rows);
    ASSERT_EQ(some.size(), (rows.size() + 3) * static_cast<size_t>(vocabulary));
    const auto same = [&](size_t of_some, size_t of_whole) {
      return std::memcmp(some.data() + of_some * static_cast<size_t>(vocabulary),
                         whole.data() + of_whole * static_cast<size_t>(vocabulary),
                         static_cast<size_t>(vocabulary) * sizeof(float)) == 0;
    };
    for (size_t i = 0; i < rows.size(); ++i)
      EXPECT_TRUE(same(i, static_cast<size_t>(rows[i]))) << "row " << rows[i];
    for (size_t i = 0; i < 3; ++i)
      EXPECT_TRUE(same(rows.size() + i, all.size() + i)) << "the token after prompt " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, DecoderTest, testing::Values("cpu", "reference"),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace narrow::model
