// Filters against the harness's own (tests/goldens/tasks/make_corpus.py).
#include "evaluate/answer_filter.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace narrow::evaluate {
namespace {

TEST(AnswerFilter, ChoicesAreFoundAsTheHarness) {
  const Json golden = parse_json(
      read_text_maybe_gz(NARROW_SOURCE_DIR "/tests/goldens/tasks/corpus.json.gz"), "corpus.json");
  int64_t compared = 0;
  for (const Json& row : golden["filters"]) {
    const Json& options = row["options"];
    Json choice{{options["group_select"] == 0 ? "first" : "last", options["regex_pattern"]}};
    for (const char* key : {"ignore_case", "ignore_punctuation"})
      if (options.contains(key)) choice[key] = options[key];
    if (options.contains("regexes_to_ignore")) choice["ignore"] = options["regexes_to_ignore"];
    const Filter filter = read_filter("f", {{"choice", choice}}, "here");
    for (size_t i = 0; i < row["responses"].size(); ++i, ++compared)
      EXPECT_EQ(filter.answer(row["responses"][i].get<std::string>(), row), row["answers"][i])
          << options << row["choices"] << row["responses"][i];
  }
  EXPECT_EQ(compared, 3 * 3 * 18);
}

TEST(AnswerFilter, StepsFollowEachOther) {
  const Json rule =
      Json::parse(R"json([{"first": "^(.*?)(?=\\n|$)"}, {"strip": true}, {"last": "\\d"}])json");
  EXPECT_EQ(read_filter("f", rule, "here").answer(" 1 2 \n3", {}), "2");
  EXPECT_EQ(read_filter("f", Json::object(), "here").answer(" as it is ", {}), " as it is ");
}

TEST(AnswerFilter, CountsTheFirstAndVotes) {
  const std::vector<std::string> responses{"b", "a ", "a", "b", "c"};
  const auto answers = [&](const char* rule) {
    return read_filter("f", Json::parse(rule), "here").answers(responses, {});
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(answers("{}"), responses);
  EXPECT_EQ(answers(R"([{"take": 2}, {"strip": true}])"), (List{"b", "a"}));
  EXPECT_EQ(answers(R"([{"strip": true}, {"vote": true}])"), List{"b"});
  EXPECT_EQ(answers(R"([{"take": 3}, {"strip": true}, {"vote": true}])"), List{"a"});
}

TEST(AnswerFilter, RefusesWhatItIsNot) {
  for (const char* rule : {R"({"middle": "x"})", R"([{"vote": true}, {"strip": true}])",
                           R"([{"strip": true}, {"take": 2}])", R"({"take": 0})",
                           R"({"vote": false})", R"({"strip": false})", R"({"choice": {}})", "3",
                           R"({"first": "x", "last": "y"})", R"json([{"first": "("}])json"})
    EXPECT_THROW(read_filter("f", Json::parse(rule), "here"), Error) << rule;
  const Filter filter = read_filter("f", {{"choice", {{"first", "x"}}}}, "here");
  for (const char* document : {"{}", R"({"choices": []})", R"({"choices": [1]})", "[]"})
    EXPECT_THROW(filter.answer("y", Json::parse(document)), Error) << document;
}

}  // namespace
}  // namespace narrow::evaluate
