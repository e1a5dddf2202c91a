#include "evaluate/arena_judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

// Answers each conversation by `reply`, and remembers them.
class FakeJudge : public endpoint::Endpoint {
 public:
  explicit FakeJudge(std::function<std::string(const Json&)> reply) : reply_(std::move(reply)) {}
  const endpoint::Info& info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override { throw Error::refused("none"); }
  const text::ChatTemplate* chat_template() const override { return nullptr; }
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest,
                                                 endpoint::TokenSink) override {
    throw Error::refused("not asked for");
  }
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest) override {
    throw Error::refused("not asked for");
  }
  std::future<endpoint::GenerateResult> chat(endpoint::ChatRequest request,
                                             endpoint::TokenSink) override {
    asked.push_back(request);
    endpoint::GenerateResult result;
    result.text = reply_(request.messages);
    result.finish =
        result.text == "fail" ? endpoint::FinishReason::error : endpoint::FinishReason::stop;
    result.error = result.text == "fail" ? "out of order" : "";
    if (result.text.starts_with("refuse")) {
      result.finish = endpoint::FinishReason::error;
      result.error = "9000 tokens exceed the context of 8192";
      result.refused = true;
    }
    std::promise<endpoint::GenerateResult> promise;
    promise.set_value(std::move(result));
    return promise.get_future();
  }
  std::vector<endpoint::ChatRequest> asked;

 private:
  endpoint::Info info_;
  std::function<std::string(const Json&)> reply_;
};

const std::vector<ArenaQuestion> kQuestions = {{"q1", "Why {answer_1}?", "base says"}};

TEST(ArenaJudge, AsksBothOrdersAndOnceMoreWithoutAVerdict) {
  const ArenaSettings settings = read_arena_settings();
  FakeJudge judge([](const Json& messages) {
    if (messages.size() == 4) return "so: [[B>A]]";
    return messages[1]["content"].get<std::string>().find("Answer|>\nbase says") <
                   messages[1]["content"].get<std::string>().find("Answer|>\nmodel says")
               ? "[[A>>B]] surely"
               : "let me think";
  });
  std::vector<Json> rows;
  judge_arena(kQuestions, {"model says"}, settings, judge, {},
              [&](int64_t, Json row) { rows.push_back(std::move(row)); });
  ASSERT_EQ(rows.size(), 1u);
  const Json& games = rows[0]["games"];
  EXPECT_EQ(games[0]["user_prompt"],
            "<|User Prompt|>\nWhy {answer_1}?\n\n<|The Start of Assistant A's Answer|>\nbase says\n"
            "<|The End of Assistant A's Answer|>\n\n<|The Start of Assistant B's Answer|>\nmodel "
            "says\n<|The End of Assistant B's Answer|>");
  EXPECT_EQ(games[0]["judgment"], "\n[[A>>B]] surely");
  EXPECT_EQ(games[0]["score"], "A>>B");
  EXPECT_EQ(games[1]["judgment"], "\nlet me think\nso: [[B>A]]");
  EXPECT_EQ(games[1]["score"], "B>A");
  ASSERT_EQ(judge.asked.size(), 3u);
  EXPECT_EQ(judge.asked[0].sampling.max_tokens, 4096);
  EXPECT_EQ(judge.asked[0].sampling.temperature, 0);
  EXPECT_THAT(judge.asked[0].messages[0]["content"].get<std::string>(),
              testing::StartsWith("Please act as an impartial judge"));
  EXPECT_EQ(judge.asked[2].messages[3]["content"],
            "continue your judgment and finish by outputting a final verdict label");
  // Both games go to the baseline: three battles and one.
  const auto games_of = arena_games(
      kQuestions, rows, [](const std::string& text) { return static_cast<int64_t>(text.size()); });
  EXPECT_EQ(arena_battles(games_of, 3).size(), 4u);
  EXPECT_EQ(games_of[0].model.tokens, 10);
  EXPECT_EQ(game_agreement(games_of), 1.0);
}

TEST(ArenaJudge, StopsWhereTheJudgeFailsAndSkipsWhatIsDone) {
  const ArenaSettings settings = read_arena_settings();
  FakeJudge judge([](const Json&) { return "fail"; });
  EXPECT_THAT([&] { judge_arena(kQuestions, {"x"}, settings, judge, {}, [](int64_t, Json) {}); },
              ThrowsMessage<Error>(HasSubstr("out of order")));
  judge.asked.clear();
  answer_arena(kQuestions, settings, judge, {0}, [](int64_t, Json) { FAIL(); });
  EXPECT_TRUE(judge.asked.empty());
}

// At once, and when it is asked to go on.
TEST(ArenaJudge, GamesThatTheJudgeCannotTakeHaveNoVerdict) {
  const ArenaSettings settings = read_arena_settings();
  FakeJudge judge([](const Json& messages) {
    if (messages.size() == 4) return "refuse";
    const auto asked = messages[1]["content"].get<std::string>();
    if (asked.find("too long") == std::string::npos) return "[[A>B]]";
    return asked.find("too long") < asked.find("base says") ? "refuse" : "let me think";
  });
  const std::vector<ArenaQuestion> questions = {{"q1", "Why?", "base says"},
                                                {"q2", "How?", "base says"}};
  std::vector<Json> rows;
  judge_arena(questions, {"too long", "short"}, settings, judge, {},
              [&](int64_t, Json row) { rows.push_back(std::move(row)); });
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(refused_games(rows), 2);
  for (const Json& game : rows[0]["games"]) {
    EXPECT_TRUE(game["score"].is_null());
    EXPECT_EQ(game["refused"], "9000 tokens exceed the context of 8192");
  }
  EXPECT_EQ(rows[0]["games"][0]["judgment"], "\nlet me think");
  const auto games = arena_games(questions, rows, [](const std::string&) { return 1; });
  EXPECT_EQ(arena_battles(games, 3).size(), 2u);
  // An answer is wanted of every model.
  EXPECT_THAT(
      [&] {
        FakeJudge model([](const Json&) { return "refuse"; });
        answer_arena(questions, settings, model, {}, [](int64_t, Json) {});
      },
      ThrowsMessage<Error>(HasSubstr("exceed the context")));
}

TEST(ArenaJudge, ReadsBothFormsOfTheFiles) {
  const TemporaryDirectory folder;
  const std::string questions =
      folder.file("q.jsonl",
                  "{\"uid\": \"a\", \"prompt\": \"one\"}\n"
                  "{\"question_id\": 7, \"turns\": [{\"content\": \"two\"}]}\n");
  const std::string baseline = folder.file(
      "b.jsonl",
      "{\"uid\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"one\"}, {\"role\": "
      "\"assistant\", \"content\": {\"answer\": \"first\"}}]}\n"
      "{\"question_id\": 7, \"choices\": [{\"turns\": [{\"content\": \"second\"}]}]}\n");
  const auto list = read_arena_questions(questions, baseline, 10);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].baseline, "first");
  EXPECT_EQ(list[1].id, "7");
  EXPECT_EQ(list[1].prompt, "two");
  EXPECT_EQ(list[1].baseline, "second");
  EXPECT_EQ(read_arena_questions(questions, baseline, 1).size(), 1u);
  for (const char* broken : {"{\"uid\": \"b\", \"messages\": []}\n", "{\"uid\": \"a\"}\n", "[]\n",
                             "{\"messages\": 3}\n", "{\"uid\": \"a\", \"choices\": []}\n",
                             "{\"uid\": \"a\", \"choices\": [{\"turns\": []}]}\n"}) {
    write_text(baseline, broken);
    EXPECT_THROW(read_arena_questions(questions, baseline, 10), Error) << broken;
  }
}

}  // namespace
}  // namespace narrow::evaluate
