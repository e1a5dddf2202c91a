#include "similarity/side_by_side.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/test_files.h"

namespace narrow::similarity {
namespace {

using testing::HasSubstr;

Json generated(int doc, const std::string& text, const std::string& filter, double score,
               const std::string& answer) {
  return {{"doc_id", doc},
          {"doc", Json::object()},
          {"target", "18"},
          {"arguments",
           {{"gen_args_0",
             {{"arg_0", "Question: " + std::to_string(doc)}, {"arg_1", Json::object()}}}}},
          {"resps", Json::array({Json::array({text})})},
          {"filtered_resps", Json::array({answer})},
          {"filter", filter},
          {"metrics", Json::array({"exact_match"})},
          {"exact_match", score}};
}

Json chosen(int doc, const std::vector<std::string>& likelihoods, double acc, double acc_norm) {
  Json line{{"doc_id", doc}, {"target", 1}, {"filter", "none"}};
  const char* choices[] = {" no", " certainly"};
  Json responses = Json::array();
  for (size_t i = 0; i < likelihoods.size(); ++i) {
    line["arguments"]["gen_args_" + std::to_string(i)] = {{"arg_0", "Is it?"},
                                                          {"arg_1", choices[i]}};
    responses.push_back(Json::array({Json::array({likelihoods[i], "False"})}));
  }
  line["resps"] = responses;
  line["filtered_resps"] = Json::array({"-1", "False"});
  line["metrics"] = {"acc", "acc_norm"};
  line["acc"] = acc;
  line["acc_norm"] = acc_norm;
  return line;
}

std::string lines(const std::vector<Json>& rows) {
  std::string text;
  for (const Json& row : rows) text += row.dump() + "\n";
  return text;
}

class SideBySide : public testing::Test {
 protected:
  SideBySide() {
    base_.file("samples_gsm8k.jsonl",
               lines({generated(0, "so 18", "strict", 1, "18"), generated(1, "7", "strict", 0, "7"),
                      generated(0, "so 18", "loose", 1, "18"), generated(1, "7", "loose", 0, "7"),
                      generated(2, "x", "strict", 0, "x")}));
    variant_.file(
        "samples_gsm8k_2025-01-31T12-00-00.123.jsonl",
        lines({generated(0, "so \x1b[31m17", "strict", 0, "17"),
               generated(1, "7", "strict", 1, "7"), generated(3, "x", "strict", 0, "x")}));
    base_.file("samples_mmlu_law.jsonl", lines({chosen(0, {"-2.0", "-5.0"}, 0, 1)}));
    variant_.file("samples_mmlu_law.jsonl", lines({chosen(0, {"-1.0", "-9.5"}, 0, 0)}));
  }
  std::string refusal() const {
    try {
      pair_samples(base_.path(), variant_.path(), "");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::refused);
      return error.what();
    }
    return {};
  }

  const TemporaryDirectory base_, variant_;
};

TEST_F(SideBySide, GeneratedAnswers) {
  const auto samples = pair_samples(base_.path(), variant_.path(), "gsm8k");
  ASSERT_EQ(samples.pairs.size(), 2u);
  EXPECT_EQ(samples.only_base, 1);
  EXPECT_EQ(samples.only_variant, 1);
  const SamplePair& first = samples.pairs[0];
  EXPECT_TRUE(first.lost() && first.diverged() && !first.gained());
  const std::string text = to_text(first, "bf16", "w4a16");
  EXPECT_THAT(text,
              HasSubstr("=== gsm8k document 0: right → wrong, texts differ from character 4"));
  EXPECT_THAT(text, HasSubstr("--- prompt\nQuestion: 0\n"));
  EXPECT_THAT(text, HasSubstr("--- target: 18\n"));
  EXPECT_THAT(text, HasSubstr("--- bf16: exact_match,strict 1, exact_match,loose 1\nso 18\n"));
  EXPECT_THAT(text, HasSubstr("--- w4a16: exact_match,strict 0\nso \\x1b[31m17\n    strict: 17"));
  const SamplePair& second = samples.pairs[1];
  EXPECT_TRUE(second.gained() && !second.diverged() && !second.lost());
  EXPECT_EQ(to_json(second)["variant"]["filtered"]["strict"], "7");
}

TEST_F(SideBySide, ChoicesPerCharacter) {
  const auto samples = pair_samples(base_.path(), variant_.path(), "mmlu");
  ASSERT_EQ(samples.pairs.size(), 1u);
  const SamplePair& pair = samples.pairs[0];
  // -2 / 2 against -5 / 9; then -1 / 2 against -9.5 / 9.
  EXPECT_EQ(pair.base.chosen, 1u);
  EXPECT_EQ(pair.variant.chosen, 0u);
  EXPECT_TRUE(pair.lost() && pair.diverged());
  EXPECT_EQ(pair.prompts, std::vector<std::string>{"Is it?"});
  EXPECT_THAT(to_text(pair, "a", "b"), HasSubstr("   -5.0000*    -9.5000   certainly\n"));
}

// Texts that were scored whole: no choices, one number, as loglikelihood_rolling writes them.
TEST_F(SideBySide, TextsScoredWhole) {
  const auto page = [](const char* sum) {
    return Json{{"doc_id", 0},
                {"target", "A page"},
                {"arguments", {{"gen_args_0", {{"arg_0", "A page"}}}}},
                {"resps", Json::array({Json::array({sum})})},
                {"filtered_resps", Json::array({sum})},
                {"filter", "none"},
                {"metrics", Json::array({"bits_per_byte"})},
                {"bits_per_byte", Json::array({-7.5, 6})}};
  };
  base_.file("samples_wikitext.jsonl", lines({page("-7.5")}));
  variant_.file("samples_wikitext.jsonl", lines({page("-7.75")}));
  const auto samples = pair_samples(base_.path(), variant_.path(), "wikitext");
  ASSERT_EQ(samples.pairs.size(), 1u);
  EXPECT_EQ(samples.pairs[0].variant.text, "-7.75");
  EXPECT_THAT(to_text(samples.pairs[0], "a", "b"), HasSubstr("--- prompt\nA page\n"));
}

TEST_F(SideBySide, AllTasksWithoutAName) {
  EXPECT_EQ(pair_samples(base_.path(), variant_.path(), "").pairs.size(), 3u);
  EXPECT_THROW(pair_samples(base_.path(), variant_.path(), "mm"), Error);
}

TEST_F(SideBySide, RefusesOtherPrompts) {
  Json other = chosen(0, {"-1.0", "-9.5"}, 0, 0);
  other["arguments"]["gen_args_1"]["arg_1"] = " surely";
  variant_.file("samples_mmlu_law.jsonl", lines({other}));
  EXPECT_THAT(refusal(), HasSubstr("document 0 of mmlu_law was not asked in the same words"));
}

TEST_F(SideBySide, RefusesDamagedFiles) {
  const auto with = [&](const char* key, const Json& value) {
    Json line = chosen(0, {"-1.0", "-9.5"}, 0, 0);
    line[key] = value;
    variant_.file("samples_mmlu_law.jsonl", lines({line}));
    return refusal();
  };
  EXPECT_EQ(with("acc", 1), "");
  for (const char* key : {"doc_id", "arguments", "resps", "metrics", "filter"})
    EXPECT_THAT(with(key, 0.25), HasSubstr("samples_mmlu_law.jsonl:1")) << key;
  EXPECT_THAT(with("arguments", {{"gen_args_0", 3}}), HasSubstr("arg_0"));
  EXPECT_THAT(with("resps", Json::array({Json::array({Json::array({"x", "True"})})})),
              HasSubstr("no number"));
  EXPECT_THAT(with("resps", Json::array()), HasSubstr("as many responses"));
  variant_.file("samples_mmlu_law.jsonl", "not json\n");
  EXPECT_NE(refusal(), "");
  const Json line = chosen(0, {"-1.0", "-9.5"}, 0, 0);
  variant_.file("samples_mmlu_law.jsonl", lines({line, line}));
  EXPECT_THAT(refusal(), HasSubstr("there twice"));
  EXPECT_THROW(pair_samples("/nowhere", variant_.path(), ""), Error);
  const TemporaryDirectory empty;
  EXPECT_THROW(pair_samples(base_.path(), empty.path(), ""), Error);
}

}  // namespace
}  // namespace narrow::similarity
