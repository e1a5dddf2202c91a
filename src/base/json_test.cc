#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/thread_pool.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ParseJson, KeepsTheOrderOfKeys) {
  EXPECT_EQ(to_line(parse_json(R"({"b":1,"a":[true,null,"é"]})", "x")),
            R"({"b":1,"a":[true,null,"é"]})");
}

TEST(ParseJson, RefusesWhatBreaksABound) {
  const auto refuses = [](const std::string& text, const std::string& message,
                          const JsonLimits& limits = {}) {
    EXPECT_THAT([&] { parse_json(text, "x", limits); }, ThrowsMessage<Error>(HasSubstr(message)))
        << text.substr(0, 40);
  };
  refuses("", "not valid JSON");
  refuses("{", "not valid JSON");
  refuses("{} x", "not valid JSON");
  refuses("NaN", "not valid JSON");
  refuses("\"\xff\"", "not valid JSON");
  refuses(R"({"a":1,"a":2})", "duplicate key");
  refuses(R"([{"b":{"a":1,"a":2}}])", "duplicate key");
  refuses(std::string(70, '[') + std::string(70, ']'), "nested deeper");
  refuses(std::string(1'000'000, '['), "nested deeper");
  refuses("[1,2,3]", "above 5 bytes", {.bytes = 5});
}

TEST(ParseYaml, BecomesTheSameDocument) {
  const Json parsed = parse_yaml("a: 1\nb: [x, 2.5, true, '3', ~]\n", "x");
  EXPECT_EQ(parsed, parse_json(R"({"a":1,"b":["x",2.5,true,"3",null]})", "x"));
  EXPECT_THROW(parse_yaml("a: 1\na: 2\n", "x"), Error);
  EXPECT_THROW(parse_yaml("a: [1", "x"), Error);
}

// python3 -c "import yaml; print(yaml.safe_load('a: 1\nb: {c: 2, c: 3}\na: 4'))"
TEST(ParseYaml, TheLastOfTwoKeysCountsWhereTheyAreAllowed) {
  const Json parsed = parse_yaml("a: 1\nb: {c: 2, c: 3}\na: 4\n", "x", {.duplicate_keys = true});
  EXPECT_EQ(parsed, parse_json(R"({"a":4,"b":{"c":3}})", "x"));
}

// What yaml-cpp reads otherwise; the values are PyYAML's:
// python3 -c "import yaml; print(yaml.safe_load(TEXT))"
TEST(ParseYaml, QuotedTextsAreWhatPyYamlReads) {
  for (const auto& [text, value] : std::vector<std::pair<std::string, std::string>>{
           {"'one\n\n\n  '", "one\n\n"},
           {"'\n\n  '", "\n"},
           {"'\n  '", " "},
           {"'it''s\n  two \n\n three'", "it's two\nthree"},
           {"\"one\\\n  two\\\n\n\n  three\n\n\n\"", "onetwo\n\nthree\n\n"},
           {R"("a\_b\N\xe9\u20ac\U0001F600\0\e\"\\\/\tz")",
            std::string("a\u00a0b\u0085\u00e9\u20ac\U0001F600\0\x1b\"\\/\tz", 22)},
           {"!!null 'null'", ""},
           {"!!str 5", "5"}}) {
    const Json parsed = parse_yaml("\xEF\xBB\xBF# \u00e9\r\na: [1, " + text + "]\r\n", "x");
    EXPECT_EQ(parsed["a"][1], text.starts_with("!!null") ? Json() : Json(value)) << text;
  }
  EXPECT_THROW(parse_yaml("a: \"\\x\"", "x"), Error);
  EXPECT_THROW(parse_yaml("a: \"\xe9\"", "x"), Error);  // no UTF-8
}

TEST(ParseYaml, AliasesDoNotUnfoldIntoABomb) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 9; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_THROW(parse_yaml(bomb, "x"), Error);
}

TEST(JsonGet, NamesTheField) {
  const Json object = {{"a", 1}, {"n", nullptr}};
  EXPECT_EQ(json_get<int>(object, "a", "x"), 1);
  EXPECT_EQ(json_get<int>(object, "n", "x", 7), 7);
  EXPECT_THAT([&] { json_get<int>(object, "b", "x"); }, ThrowsMessage<Error>(HasSubstr("\"b\"")));
  EXPECT_THAT([&] { json_get<std::string>(object, "a", "x"); },
              ThrowsMessage<Error>(HasSubstr("wrong type")));
}

TEST(ThreadPool, CoversEachElementOnceWhateverTheThreads) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t count : {0, 1, 7, 64, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      pool.parallel_for(count, 8, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % 8, 0);
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [](int64_t begin, int64_t end) {
                                   if (begin <= 50 && 50 < end) throw Error::failed("fifty");
                                 }),
               Error);
  std::atomic<int64_t> sum = 0;
  pool.parallel_for(10, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 10);
}

// Aliases that multiply, cycles and depth (fuzz/regressions/yaml, and every input fuzzing ever
// found).
TEST(Yaml, RegressionsAreRefused) {
  const std::string folder = std::string(NARROW_SOURCE_DIR) + "/fuzz/regressions/yaml";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    EXPECT_THROW(read_yaml(entry.path()), Error) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace narrow
