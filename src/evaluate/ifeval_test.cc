#include "evaluate/ifeval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "evaluate/ifeval_json.h"
#include "evaluate/language.h"
#include "evaluate/python_text.h"
#include "evaluate/sentences.h"

namespace narrow::evaluate {
namespace {

using ::testing::ElementsAre;

IfevalVerdict judge(const char* instruction, const Json& arguments, const std::string& response) {
  return judge_ifeval(
      Json{{"instruction_id_list", {instruction}}, {"kwargs", Json::array({arguments})}}, response);
}

// Canned responses to all 25 instructions, with the harness's verdicts (tests/goldens/checkers).
TEST(Ifeval, VerdictsEqualTheHarness) {
  int64_t rows = 0, drawn_letters = 0;
  for_each_json_line(
      NARROW_SOURCE_DIR "/tests/goldens/checkers/ifeval.jsonl.gz", [&](Json&& row, int64_t line) {
        ++rows;
        // For '#' the harness counts a letter drawn at random instead.
        if (row["kwargs"][0].value("letter", "") == "#") {
          ++drawn_letters;
          return;
        }
        const IfevalVerdict verdict = judge_ifeval(row, row["response"]);
        EXPECT_EQ(Json(verdict.instruction_strict), row["strict"]) << line << ": " << row;
        EXPECT_EQ(Json(verdict.instruction_loose), row["loose"]) << line << ": " << row;
        EXPECT_EQ(verdict.prompt_strict, row["strict_all"].get<bool>());
        EXPECT_EQ(verdict.prompt_loose, row["loose_all"].get<bool>());
      });
  EXPECT_EQ(rows, 149);
  EXPECT_EQ(drawn_letters, 2);
}

TEST(Ifeval, ALetterOutsideTheAlphabetIsCountedItself) {
  const Json arguments{{"letter", "#"}, {"let_frequency", 2}, {"let_relation", "less than"}};
  EXPECT_TRUE(judge("keywords:letter_frequency", arguments, "# a").prompt_strict);
  EXPECT_FALSE(judge("keywords:letter_frequency", arguments, "# # a").prompt_strict);
}

TEST(Ifeval, BadDocumentsAreRefused) {
  EXPECT_THROW(judge("keywords:no_such", Json::object(), "x"), Error);
  EXPECT_THROW(judge("keywords:existence", Json::object(), "x"), Error);
  EXPECT_THROW(judge("keywords:existence", {{"keywords", "river"}}, "x"), Error);
  EXPECT_THROW(judge("keywords:existence", {{"keywords", {"(unclosed"}}}, "x"), Error);
  EXPECT_THROW(judge("length_constraints:number_words",
                     {{"num_words", 1e300}, {"relation", "at least"}}, "x"),
               Error);
  EXPECT_THROW(
      judge("length_constraints:number_words", {{"num_words", 1}, {"relation", "about"}}, "x"),
      Error);
  EXPECT_THROW(judge("keywords:letter_frequency",
                     {{"letter", "ab"}, {"let_frequency", 1}, {"let_relation", "at least"}}, "x"),
               Error);
  EXPECT_THROW(judge_ifeval(Json::array(), "x"), Error);
  EXPECT_THROW(
      judge_ifeval({{"instruction_id_list", {"punctuation:no_comma"}}, {"kwargs", Json::array()}},
                   "x"),
      Error);
}

TEST(Ifeval, HostileResponsesAreJudged) {
  std::string hostile[] = {std::string(1, '\0'),          "\xff\xfe\x80",
                           std::string(20000, '*'),       std::string(20000, '['),
                           std::string(5000, '.') + " A", std::string(20000, '"')};
  for (const std::string& response : hostile) {
    for (const auto& [name, arguments] : std::vector<std::pair<const char*, Json>>{
             {"detectable_format:json_format", Json::object()},
             {"detectable_format:title", Json::object()},
             {"detectable_format:number_highlighted_sections", {{"num_highlights", 1}}},
             {"detectable_content:number_placeholders", {{"num_placeholders", 1}}},
             {"change_case:capital_word_frequency",
              {{"capital_frequency", 1}, {"capital_relation", "at least"}}},
             {"length_constraints:number_sentences",
              {{"num_sentences", 1}, {"relation", "at least"}}},
             {"language:response_language", {{"language", "de"}}}}) {
      const IfevalVerdict verdict = judge(name, arguments, response);
      EXPECT_EQ(verdict.prompt_strict, verdict.instruction_strict[0]) << name;
    }
  }
}

// nltk.sent_tokenize of 3.10.4 with punkt_tab.
TEST(Sentences, AbbreviationsInitialsAndQuotes) {
  EXPECT_THAT(sentences("Dr. Smith says e.g. 3.5 metres. (Yes.) \"No!\" he said."),
              ElementsAre("Dr. Smith says e.g.", "3.5 metres.", "(Yes.)", "\"No!\"", "he said."));
  EXPECT_THAT(sentences("Very bad acting!!! I promise."),
              ElementsAre("Very bad acting!!!", "I promise."));
  EXPECT_THAT(sentences("  "), ElementsAre());
}

TEST(Words, ContractionsAndPunctuation) {
  EXPECT_THAT(
      word_tokens("They'll cannot pay $3.88 (in U.S.)."),
      ElementsAre("They", "'ll", "can", "not", "pay", "$", "3.88", "(", "in", "U.S.", ")", "."));
}

// langdetect 1.0.9 with DetectorFactory.seed = 0.
TEST(Language, KnowsScriptsAndLatinLanguages) {
  EXPECT_EQ(detect_language("Der Fluss fließt langsam durch das Tal."), "de");
  EXPECT_EQ(detect_language("नदी धीरे धीरे घाटी से होकर बहती है।"), "hi");
  EXPECT_EQ(detect_language("강은 천천히 골짜기를 지나 흐른다."), "ko");
  EXPECT_EQ(detect_language("12345 !?"), std::nullopt);
  EXPECT_EQ(detect_language(""), std::nullopt);
}

TEST(PythonText, CaseAndSpaceAreUnicode) {
  EXPECT_EQ(python::strip("\u3000\u00a0 x\u2028\x1c"), "x");
  EXPECT_THAT(python::split("a\u2003b  c "), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(python::is_upper("ÄÖ 1"));
  EXPECT_FALSE(python::is_upper("12"));
  EXPECT_TRUE(python::is_lower("ªß"));
  EXPECT_EQ(python::lower("ÀΣİ"), "àσi\u0307");
}

TEST(PythonJson, TakesWhatPythonTakes) {
  for (const char* good :
       {"{}", " [1, -0.5e+3, NaN, -Infinity] ", "\"\\ud800\"", "{\"a\": 1, \"a\": 2}", "0", "[[]]"})
    EXPECT_TRUE(is_python_json(good)) << good;
  for (const char* bad : {"", "{", "[1,]", "{a: 1}", "01", "1.", "\"\n\"", "[1] x", "'a'", "+1",
                          "nan", "\"\\x\"", "{\"a\"}", "\"\\u12\""})
    EXPECT_FALSE(is_python_json(bad)) << bad;
  EXPECT_FALSE(is_python_json(std::string(100000, '[')));
  EXPECT_FALSE(is_python_json(std::string(5000, '1')));
}

}  // namespace
}  // namespace narrow::evaluate
