#include "report/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "analyse/test_study.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using analyse::Flip;
using analyse::Sample;
using testing::HasSubstr;

Analysis made_up(const analyse::test::Shape& shape = {}) {
  analyse::Options options;
  options.resamples = 100;
  return analyse::analyse(analyse::test::study(shape), options);
}

// A study of one generated pair.
Json pair_of(const std::string& base, const std::string& other) {
  Analysis analysis;
  Sample sample;
  sample.task = "t";
  sample.format = "f";
  sample.contexts = {"prompt"};
  sample.response_base = base;
  sample.response = other;
  analysis.samples.list = {sample};
  analysis.samples.counts = {{"t", "f", 1, 0, 0, 0, 1}};
  return reader_data(analysis)["samples"][0];
}

TEST(Reader, FlipsComeFirstAndAreCounted) {
  analyse::test::Shape shape;
  shape.questions = 300;
  const Json data = reader_data(made_up(shape));
  int64_t shown = 0;
  for (const Json& group : data["groups"]) {
    if (group["task"] == "greedy answers") continue;
    const int64_t flips = group["lost"].get<int64_t>() + group["gained"].get<int64_t>();
    const int64_t here = group["shown"];
    EXPECT_EQ(group["pairs"], group["task"] == "mmlu" ? 600 : 300);
    EXPECT_EQ(here, analyse::kSamplesPerGroup);
    // A group's samples: no pair that stayed before one that flipped.
    int64_t seen_flips = 0;
    int last = 0;
    for (const Json& sample : data["samples"]) {
      if (data["groups"][sample["group"].get<size_t>()] != group) continue;
      const int rank = sample["flip"].get<int>() < 2 ? 0 : sample["flip"].get<int>();
      EXPECT_GE(rank, last);
      last = rank;
      seen_flips += rank == 0;
    }
    EXPECT_EQ(seen_flips, std::min(flips, here));
    shown += here;
  }
  EXPECT_EQ(shown, 3 * 4 * analyse::kSamplesPerGroup);
}

TEST(Reader, HoldsWhatWasAskedAndAnswered) {
  const Json data = reader_data(made_up());
  std::set<std::string> ids;
  bool choice = false, generated = false;
  for (const Json& sample : data["samples"]) {
    EXPECT_TRUE(ids.insert(sample["id"].get<std::string>()).second);
    const Json& group = data["groups"][sample["group"].get<size_t>()];
    const Json& contexts = data["prompts"].at(sample["prompt"].get<size_t>());
    if (sample.contains("choices")) {
      choice = true;
      EXPECT_EQ(contexts[0], "Why is the sky blue?\nQuestion " +
                                 std::to_string(sample["doc"].get<int>()) + " of " +
                                 (group["task"] == "mmlu" ? contexts[0].get<std::string>().find(
                                                                "anatomy") != std::string::npos
                                                                ? "mmlu_anatomy"
                                                                : "mmlu_virology"
                                                          : "arc_challenge") +
                                 "\nAnswer:");
      EXPECT_EQ(sample["choices"].size(), 4u);
      EXPECT_EQ(sample["choices"][1]["text"], "choice 1");
      // The chosen one has the highest log-likelihood, on both sides.
      for (const char* side : {"base", "format"}) {
        const size_t chosen = sample[side == std::string("base") ? "chosen_base" : "chosen"];
        for (const Json& other : sample["choices"])
          EXPECT_GE(sample["choices"][chosen][side].get<double>(), other[side].get<double>());
      }
      if (sample["flip"] == static_cast<int>(Flip::lost)) {
        EXPECT_EQ(sample["chosen_base"], 0);
        EXPECT_NE(sample["chosen"], 0);
      }
    } else if (group["task"] == "gsm8k") {
      generated = true;
      const std::string alike = sample["alike"];
      EXPECT_EQ(alike.substr(0, 31), "Seven apples and six rows make ");
      EXPECT_EQ(sample["target"], "42");
      EXPECT_EQ(sample["extracted_base"] == sample["extracted"], sample["flip"] == 3);
    }
  }
  EXPECT_TRUE(choice && generated);
}

TEST(Reader, MarksTheFirstDifferenceFromTheStartOfItsWord) {
  const Json words = pair_of("It is forty two.", "It is forty three.");
  EXPECT_EQ(words["alike"], "It is forty ");
  EXPECT_EQ(words["rest_base"], "two.");
  EXPECT_EQ(words["rest"], "three.");
  const Json same = pair_of("Alike.", "Alike.");
  EXPECT_EQ(same["alike"], "Alike.");
  EXPECT_EQ(same["rest"], "");
  const Json longer = pair_of("One", "One more");
  EXPECT_EQ(longer["alike"].get<std::string>() + longer["rest"].get<std::string>(), "One more");
  // Never inside a character, also without any blank.
  const std::string run = "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字";
  const Json characters = pair_of(run + "漢", run + "字");
  EXPECT_EQ(characters["alike"], run);
  EXPECT_EQ(characters["rest"], "字");
  EXPECT_EQ(pair_of("", "x")["rest"], "x");
}

// A long common beginning loses its start, an answer its end, a prompt its middle; each says so.
TEST(Reader, IsBounded) {
  const std::string shared(100'000, 'a');
  const Json pair = pair_of(shared + " x" + shared, shared + " y");
  EXPECT_LT(pair["alike"].get<std::string>().size(), 5'000u);
  EXPECT_THAT(pair["alike"].get<std::string>(), HasSubstr("bytes left out"));
  EXPECT_THAT(pair["rest_base"].get<std::string>(), HasSubstr("bytes left out"));
  EXPECT_EQ(pair["rest"], "y");

  analyse::test::Shape shape;
  shape.questions = 200;
  const Analysis analysis = made_up(shape);
  const Json whole = reader_data(analysis), few = reader_data(analysis, {.bytes = 3'000});
  EXPECT_LT(few["samples"].size(), whole["samples"].size() / 4);
  // Each group keeps some, and what is left out is said.
  for (const Json& group : few["groups"]) EXPECT_GT(group["shown"].get<int>(), 0);
  EXPECT_EQ(few["groups"][0]["pairs"], whole["groups"][0]["pairs"]);

  shape.prompt = std::string(500'000, 'p');
  shape.questions = 1;
  const Json cut = reader_data(made_up(shape));
  EXPECT_LT(cut.dump().size(), 1'000'000u);
  // The end of a prompt is the question: it stays.
  EXPECT_THAT(cut["prompts"][0][0].get<std::string>(), HasSubstr("Question 0 of"));
}

TEST(Reader, TextsAreMadeVisible) {
  const Json pair = pair_of(
      "a\u202E\x01"
      "b",
      "a\xff");
  EXPECT_EQ(pair["rest_base"].get<std::string>(), "a<U+202E><U+0001>b");
  EXPECT_EQ(pair["rest"], "a\uFFFD");
}

// Where the choice is in the context, what is scored stands behind it.
TEST(Reader, ContextsKeepTheirContinuations) {
  std::vector<analyse::CellRows> cells;
  for (const char* format : {"bf16", "x"}) {
    auto rows = analyse::test::cell("eval", format, "winogrande");
    analyse::test::append(
        rows, {{"doc_id", 0},
               {"metrics", {{"acc", 1}}},
               {"prompt",
                {"Joe went to the bank because the bank", "Joe went to the bank because the shop"}},
               {"continuations", {" was open.", " was open."}},
               {"loglikelihoods", {-1.0, -2.0}}});
    cells.push_back(std::move(rows));
  }
  const Json data =
      reader_data(analyse::analyse(analyse::parse_study(nullptr, nullptr, cells), {}));
  EXPECT_EQ(data["prompts"][0][1], "Joe went to the bank because the shop");
  EXPECT_EQ(data["samples"][0]["continuations"][1], " was open.");
}

// Rows of a store may come from anywhere: odd shapes are shown as text or not at all.
TEST(Reader, OddRowsAreNoError) {
  std::vector<analyse::CellRows> cells;
  for (const char* format : {"bf16", "x"}) {
    auto rows = analyse::test::cell("eval", format, "t");
    const Json metrics{{"acc", 1}};
    analyse::test::append(rows, {{"doc_id", 0}, {"metrics", metrics}});
    analyse::test::append(rows,
                          {{"doc_id", 1}, {"metrics", metrics}, {"prompt", {1, nullptr, "c"}}});
    analyse::test::append(rows, {{"doc_id", 2},
                                 {"metrics", metrics},
                                 {"prompt", {{"a", 1}}},
                                 {"choices", "one"},
                                 {"target", {1, 2}},
                                 {"loglikelihoods", {-1.0, -1e300, -3.0}}});
    analyse::test::append(rows, {{"doc_id", 3},
                                 {"metrics", metrics},
                                 {"response", {{"not", "text"}}},
                                 {"answer", {{"filter", 7}}}});
    cells.push_back(std::move(rows));
  }
  const Analysis analysis = analyse::analyse(analyse::parse_study(nullptr, nullptr, cells), {});
  const Json data = reader_data(analysis);
  EXPECT_EQ(data["samples"].size(), 4u);
}

}  // namespace
}  // namespace narrow::report
