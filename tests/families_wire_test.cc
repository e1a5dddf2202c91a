// Families beyond SmolLM2, whose files are too large for every test run: scripts/check --wire
// fetches them. Log-probabilities and ids against transformers and tiktoken (goldens' READMEs).
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "logits_gap.h"
#include "text/chat_template.h"
#include "tokenizer_goldens.h"

namespace narrow {
namespace {

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/";
const std::string kModels = std::string(NARROW_DATA_DIR) + "/models/";
const std::string kQwen = kModels + "Qwen2.5-Coder-0.5B-Instruct.gguf";

TEST(Qwen2, Tokenizer) {
  const auto checkpoint = checkpoint::open(kQwen);
  compare_strings(text::Tokenizer::from_json(checkpoint->documents().tokenizer,
                                             checkpoint->documents().tokenizer_config),
                  kGoldens + "tokenizer/Qwen2.5-Coder-0.5B-Instruct-strings.jsonl.gz");
}

TEST(Qwen2, Chat) {
  const auto checkpoint = checkpoint::open(kQwen);
  compare_chats(*checkpoint, kGoldens + "tokenizer/Qwen2.5-Coder-0.5B-Instruct-chat.jsonl.gz");
}

// The reference computes in float32 on the bf16 weights, as the golden does.
TEST(Qwen2, LogitsOnReference) {
  const Gap gap =
      logits_gap(kQwen, "reference", kGoldens + "logits/Qwen2.5-Coder-0.5B-Instruct-float32.jsonl");
  EXPECT_GT(gap.count, 100);
  EXPECT_LT(gap.largest, 2e-3);
  EXPECT_EQ(gap.argmax_differs, 0);
}

// transformers' own bfloat16 differs from its float32 by 0.030 in the mean and 0.40 at most on these
// prompts, and in 10 of the most likely tokens.
TEST(Qwen2, LogitsOnCpu) {
  const Gap gap =
      logits_gap(kQwen, "cpu", kGoldens + "logits/Qwen2.5-Coder-0.5B-Instruct-float32.jsonl");
  EXPECT_LT(gap.largest, 0.6);
  EXPECT_LT(gap.mean(), 0.03);
  EXPECT_LE(gap.argmax_differs, 10);
}

TEST(Llama3, Tokenizer) {
  const auto tokenizer =
      text::Tokenizer::from_json(read_text(kModels + "llama3/tokenizer.json"), "");
  int64_t rows = 0;
  for_each_json_line(kGoldens + "tokenizer/Llama-3-strings.jsonl.gz", [&](Json&& row, int64_t) {
    const auto text = row["text"].get<std::string>();
    SCOPED_TRACE(row["id"].dump() + ": " + text);
    ++rows;
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = true}), ids);
    EXPECT_EQ(tokenizer.encode(text, {}), row["ids_as_text"].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer.decode(ids), row["decoded"].get<std::string>());
    auto with_begin = row["ids_with_bos_eos"].get<std::vector<int32_t>>();
    with_begin.pop_back();  // tokenizer.json adds the beginning only
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true, .parse_special = true}), with_begin);
  });
  EXPECT_GE(rows, 200);
}

}  // namespace
}  // namespace narrow
