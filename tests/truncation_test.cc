// Prompts longer than the context: cut from the left by the harness's rule, counted, visible in
// each row. On a model of 512 tokens (tests/goldens/stories260k).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "engine/engine.h"
#include "evaluate/results.h"
#include "evaluate/run.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kContext = 512;

engine::Engine& model() {
  static engine::Engine engine(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k",
                               {.backend = "cpu"});
  return engine;
}

std::string story(int sentences) {
  std::string text = "Once there was a bird.";
  for (int i = 0; i < sentences; ++i) text += " It flew over tree " + std::to_string(i) + ".";
  return text;
}

std::vector<int32_t> last(std::vector<int32_t> ids, int64_t count) {
  return {ids.end() - count, ids.end()};
}

// lm_eval/models/vllm_causallms.py of 0.4.5: context_encoding[-(max_length - max_gen_toks):].
TEST(Truncation, LeavesRoomForTheAnswer) {
  const std::string text = story(80);
  const auto all = model().tokenizer().encode(text, {.add_special = true});
  ASSERT_GT(static_cast<int64_t>(all.size()), kContext);
  int64_t cut = 0;
  EXPECT_EQ(generation_prompt(model(), text, 12, false, &cut), last(all, kContext - 12));
  EXPECT_EQ(cut, static_cast<int64_t>(all.size()) - (kContext - 12));
  cut = 0;
  generation_prompt(model(), story(1), 12, false, &cut);
  EXPECT_EQ(cut, 0);
  EXPECT_THROW(generation_prompt(model(), "a", kContext, false), Error);
}

// (context_enc + continuation_enc)[-max_length:].
TEST(Truncation, KeepsTheWholeContinuation) {
  const std::string text = story(80), answer = " It sang.";
  const auto all = model().tokenizer().encode(text + answer, {.add_special = true});
  int64_t cut = 0;
  const auto request = score_request(model(), text, answer, false, &cut);
  std::vector<int32_t> kept = request.context;
  kept.insert(kept.end(), request.continuation.begin(), request.continuation.end());
  EXPECT_EQ(kept, last(all, kContext));
  EXPECT_EQ(cut, static_cast<int64_t>(all.size()) - kContext);
  const auto untouched = score_request(model(), story(1), answer, false);
  EXPECT_EQ(request.continuation, untouched.continuation);
  const auto result = model().score(request).get();
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.tokens.size(), request.continuation.size());
  EXPECT_THROW(score_request(model(), "a", " " + story(80), false), Error);
}

TEST(Truncation, IsCountedAndStandsInEachRow) {
  const TemporaryDirectory temporary;
  const fs::path& folder = temporary.path();
  write_text(folder / "rows.jsonl", to_line({{"text", story(2)}, {"choices", {"a", "b"}}}) + "\n" +
                                        to_line({{"text", story(80)}, {"choices", {"a", "b"}}}) +
                                        "\n");
  for (const char* kind :
       {"kind: generate\nanswer: a\ngenerate: {max_tokens: 4}\nfilters: {all: {}}\n"
        "metrics: ['exact_match,all']\n",
        "kind: choice\nchoices: '{{choices}}'\ngold: '0'\nmetrics: [acc]\n"}) {
    write_text(folder / "t.yaml", std::string("name: t\nversion: 1\ndata: {test: [rows.jsonl]}\n"
                                              "question: '{{text}}'\n") +
                                      kind);
    const Task task = load_task((folder / "t.yaml").string(), folder);
    std::vector<Json> rows;
    run(task, model(), {}, {}, [&](int64_t, Json row) { rows.push_back(std::move(row)); });
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_FALSE(rows[0].contains("cut_tokens"));
    EXPECT_GT(rows[1]["cut_tokens"].get<int64_t>(), 0);
    const std::string samples = samples_lines(task, task.subtasks[0], rows);
    EXPECT_NE(samples.find("\"cut_tokens\":" + rows[1]["cut_tokens"].dump()), std::string::npos);
    EXPECT_EQ(results_document({{&task, {}, "", rows}})["n-samples"]["t"]["cut"], 1);
  }
}

}  // namespace
}  // namespace narrow::evaluate
