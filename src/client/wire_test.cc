#include "client/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "client/sse.h"

namespace narrow::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<std::string> events(std::string_view stream, size_t piece) {
  std::vector<std::string> list;
  SseReader reader(1000, "s", [&](std::string_view data) { list.emplace_back(data); });
  for (size_t at = 0; at < stream.size(); at += piece) reader.push(stream.substr(at, piece));
  reader.finish();
  return list;
}

TEST(Sse, ReadsEventsHoweverTheyAreCut) {
  const std::string stream =
      "\xEF\xBB\xBF: comment\r\ndata: one\r\n\r\nevent: x\nid: 3\ndata:two\ndata: lines\n\n\n"
      "data\n\nretry: 5\n\rdata: last";
  for (size_t piece = 1; piece <= stream.size(); ++piece)
    EXPECT_THAT(events(stream, piece), ElementsAre("one", "two\nlines", "", "last")) << piece;
}

TEST(Sse, RefusesAnEventWithoutEnd) {
  EXPECT_THAT([] { events("data: " + std::string(2000, 'x'), 7); },
              ThrowsMessage<Error>(HasSubstr("exceeds 1000 bytes")));
  std::string lines;
  for (int i = 0; i < 2000; ++i) lines += "data: x\n";
  EXPECT_THAT([&] { events(lines, 7); }, ThrowsMessage<Error>(HasSubstr("exceeds 1000 bytes")));
}

// Parses, lets `change` break the answer and reads it.
template <class Change>
std::string scores_error(ScoreWay way, Change change) {
  Json answer =
      way == ScoreWay::prompt_logprobs
          ? Json::parse(R"({"choices": [{"index": 0, "prompt_logprobs": [null,
              {"8": {"logprob": -0.5, "rank": 2}, "3": {"logprob": -0.25, "rank": 1}},
              {"9": {"logprob": -1, "rank": 1}}]}], "usage": {"prompt_tokens": 3}})")
          : Json::parse(R"({"choices": [{"index": 0, "logprobs": {"tokens": ["a", "b", "c"],
              "token_logprobs": [null, -0.5, -1], "top_logprobs": [null, {"x": -0.25}, {"c": -1}]}}],
              "usage": {"prompt_tokens": 3}})");
  change(answer);
  const std::vector<int32_t> ids = {7, 8, 9};
  try {
    const auto result = read_scores(answer, way, ids, 1, 0, "answer");
    EXPECT_EQ(result.tokens.size(), 2u);
    EXPECT_EQ(result.greedy, (std::vector<bool>{false, true}));
    EXPECT_DOUBLE_EQ(result.sum(), -1.5);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Scores, AreReadOnlyFromAnAnswerAboutThePrompt) {
  for (const ScoreWay way : {ScoreWay::prompt_logprobs, ScoreWay::echo, ScoreWay::echo_and_one}) {
    EXPECT_EQ(scores_error(way, [](Json&) {}), "");
    EXPECT_EQ(scores_error(way, [](Json& a) { a.erase("usage"); }), "");
    EXPECT_THAT(scores_error(way, [](Json& a) { a["usage"]["prompt_tokens"] = 4; }),
                HasSubstr("adds or drops"));
    EXPECT_THAT(scores_error(way, [](Json& a) { a["usage"]["prompt_tokens"] = "3"; }),
                HasSubstr("no count"));
    for (const Json& choices : {Json(), Json("x"), Json::array(), Json{1}, Json{{{"index", 1}}},
                                Json{Json::object(), Json::object()}, Json{Json::object()}})
      EXPECT_NE(scores_error(way, [&](Json& a) { a["choices"] = choices; }), "") << choices;
    EXPECT_NE(scores_error(way, [](Json& a) { a = Json::array(); }), "");
  }
  const auto map = [](auto change) {
    return scores_error(ScoreWay::prompt_logprobs,
                        [&](Json& a) { change(a["choices"][0]["prompt_logprobs"]); });
  };
  EXPECT_THAT(map([](Json& l) { l.erase(0); }), HasSubstr("2 entries"));
  EXPECT_THAT(map([](Json& l) { l.push_back(nullptr); }), HasSubstr("4 entries"));
  EXPECT_THAT(map([](Json& l) { l[1].erase("8"); }), HasSubstr("does not name token 8"));
  EXPECT_THAT(map([](Json& l) { l[1] = nullptr; }), HasSubstr("does not name token 8"));
  EXPECT_THAT(map([](Json& l) { l[1]["8"]["logprob"] = 0.5; }), HasSubstr("no log-probability"));
  EXPECT_THAT(map([](Json& l) { l[1]["8"]["logprob"] = nullptr; }), HasSubstr("log-probability"));
  EXPECT_THAT(map([](Json& l) { l[1]["8"].erase("rank"); }), HasSubstr("rank"));
  EXPECT_THAT(map([](Json& l) { l[1]["99999999999999999999"] = l[1]["3"]; }),
              HasSubstr("no token id"));
  const auto echo = [](ScoreWay way, auto change) {
    return scores_error(way, [&](Json& a) { change(a["choices"][0]["logprobs"]); });
  };
  const auto longer = [](Json& l) {
    l["token_logprobs"].push_back(-1);
    l["top_logprobs"].push_back({{"d", -1}});
  };
  EXPECT_THAT(echo(ScoreWay::echo, longer), HasSubstr("4 entries"));
  EXPECT_EQ(echo(ScoreWay::echo_and_one, longer), "");
  EXPECT_THAT(echo(ScoreWay::echo, [](Json& l) { l["top_logprobs"].erase(0); }),
              HasSubstr("2 entries"));
  EXPECT_THAT(echo(ScoreWay::echo, [](Json& l) { l["top_logprobs"][1] = nullptr; }),
              HasSubstr("empty"));
  EXPECT_THAT(echo(ScoreWay::echo, [](Json& l) { l["token_logprobs"][1] = nullptr; }),
              HasSubstr("position 1"));
  EXPECT_THAT(echo(ScoreWay::echo, [](Json& l) { l = 3; }), HasSubstr("no \"token_logprobs\""));
}

std::string generation_error(const std::string& event) {
  GenerationReader reader(false, 2, {}, "stream");
  try {
    reader.event(event, {});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Generation, RefusesEventsThatAreNone) {
  EXPECT_EQ(generation_error(R"({"choices": [{"text": "a"}]})"), "");
  EXPECT_EQ(generation_error(R"({"choices": [], "usage": {"completion_tokens": 2}})"), "");
  for (const char* event :
       {"", "{", "[]", "7", "{}", R"({"choices": {}})", R"({"choices": [3]})",
        R"({"choices": [{"text": 3}]})", R"({"choices": [{"index": 1, "text": "a"}]})",
        R"({"choices": [{"text": "a"}, {"text": "b"}]})", R"({"choices": [{"token_ids": 3}]})",
        R"({"choices": [{"token_ids": [-1]}]})", R"({"choices": [{"token_ids": [1.5]}]})",
        R"({"choices": [{"token_ids": [1, 2, 3]}]})", R"({"usage": {"completion_tokens": 3}})",
        R"({"usage": {"completion_tokens": -1}})", R"({"error": "x"})",
        R"({"choices": [{"finish_reason": "content_filter"}]})",
        R"({"choices": [{"finish_reason": 4}]})"})
    EXPECT_NE(generation_error(event), "") << event;
}

TEST(Generation, SpreadsTheTokensOfAChunk) {
  using std::chrono::milliseconds;
  const endpoint::Clock::time_point t0{};
  GenerationReader reader(true, 10, {}, "stream");
  const auto say = [&](const char* content, int at) {
    reader.event(Json{{"choices", {{{"delta", {{"content", content}}}}}}}.dump(),
                 t0 + milliseconds(at));
  };
  say("a", 10);
  say("b", 20);
  EXPECT_FALSE(reader.complete());
  reader.event(R"({"choices": [{"delta": {}, "finish_reason": "length"}]})", t0);
  EXPECT_TRUE(reader.complete());
  reader.event(R"({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 4}})", t0);
  reader.event("[DONE]", t0);
  const auto result = reader.result(nullptr);
  EXPECT_EQ(result.text, "ab");
  EXPECT_EQ(result.finish, endpoint::FinishReason::length);
  EXPECT_THAT(result.timings.tokens, ElementsAre(t0 + milliseconds(10), t0 + milliseconds(10),
                                                 t0 + milliseconds(15), t0 + milliseconds(20)));
  EXPECT_THROW(reader.event("[DONE]", t0), Error);
}

// vLLM 0.32 refuses more than four stops: the others are found here, across pieces too.
TEST(Generation, CutsAtStopsBeyondTheFourth) {
  const std::vector<std::string> stops{"a", "b", "c", "d", "END", "Q:"};
  const Json body = completion_body("m", "p", {.max_tokens = 9, .stop = stops}, false);
  EXPECT_EQ(body["stop"], Json::parse(R"(["a", "b", "c", "d"])"));
  const auto read = [&](const std::vector<std::string>& pieces) {
    GenerationReader reader(false, 9, {}, "stream", stops);
    for (const std::string& piece : pieces)
      reader.event(Json{{"choices", {{{"text", piece}}}}}.dump(), {});
    EXPECT_EQ(reader.cut(), reader.complete());
    const auto result = reader.result(nullptr);
    EXPECT_EQ(result.finish, endpoint::FinishReason::stop);
    return result.text;
  };
  EXPECT_EQ(read({"one ", "two EN", "D three", "four"}), "one two ");
  EXPECT_EQ(read({"1Q: 2END"}), "1");
  EXPECT_EQ(read({"Q", ":"}), "");
  EXPECT_EQ(read({"a EN", "Q ", ":"}), "a ENQ :");  // "a" is the server's to find
}

TEST(Refusal, IsShortAndHarmless) {
  EXPECT_EQ(refusal_text(R"({"error": {"message": "no\u001b[2J"}})"), "no [2J");
  EXPECT_EQ(refusal_text(R"({"error": "plain"})"), "plain");
  EXPECT_EQ(refusal_text(R"({"detail": "of FastAPI"})"), "of FastAPI");
  EXPECT_EQ(refusal_text("not json"), "not json");
  EXPECT_LT(refusal_text(std::string(5000, 'x')).size(), 310u);
}

}  // namespace
}  // namespace narrow::client
