// What an analysis may claim: never without an A/A run that passed, "lossless" only by its margin.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analyse/analysis.h"
#include "analyse/test_study.h"

namespace narrow::analyse {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

Options quick() {
  Options options;
  options.resamples = 200;
  return options;
}

const Average& average_of(const Analysis& analysis, const std::string& format) {
  for (const Average& average : analysis.averages)
    if (average.format == format) return average;
  throw std::out_of_range(format);
}

StudyRows parsed(const std::vector<CellRows>& cells, const test::Shape& shape) {
  return parse_study(test::plan(shape), nullptr, cells);
}

// Rows enough to show a format lossless at a wide margin.
test::Shape large() {
  test::Shape shape;
  shape.questions = 600;
  shape.lossless_percent = 8;
  return shape;
}

void expect_nothing_claimed(const Analysis& analysis) {
  for (const TaskResult& task : analysis.tasks)
    for (const Comparison& comparison : task.comparisons) {
      EXPECT_EQ(comparison.claim, Claim::cannot_tell);
      EXPECT_FALSE(comparison.lossless.shown);
    }
  for (const Average& average : analysis.averages) {
    EXPECT_EQ(average.claim, Claim::cannot_tell);
    EXPECT_EQ(average.loss, LossVerdict::cannot_tell);
    EXPECT_FALSE(average.lossless.shown);
    EXPECT_THAT(average.lossless.missing, HasSubstr(analysis.noise.failure));
  }
  for (const Recommendation& item : analysis.recommendations)
    EXPECT_FALSE(item.supported && item.format != analysis.baseline) << item.headline;
  EXPECT_THAT(analysis.warnings, Contains(HasSubstr("Nothing is claimed about accuracy")));
}

TEST(Claims, ARunThatRepeatsItselfPasses) {
  const Analysis analysis = analyse(test::study(large()), quick());
  EXPECT_THAT(analysis.noise.failure, IsEmpty());
  EXPECT_EQ(analysis.noise.rows, 4 * 600);
  EXPECT_EQ(analysis.noise.differing, 0);
  EXPECT_THAT(analysis.noise.cells, SizeIs(4));
  EXPECT_TRUE(average_of(analysis, "w8a8-fp").lossless.shown);
}

// One log-likelihood of one row in its last place is enough.
TEST(Claims, OneRowThatDiffersSilencesThem) {
  auto cells = test::cells(large());
  for (CellRows& rows : cells)
    if (rows.cell.kind == "repeat" && rows.cell.name == "arc_challenge") {
      Json& value = rows.rows[7].data["loglikelihoods"][2];
      value = std::nextafter(value.get<double>(), 0.0);
    }
  const Analysis analysis = analyse(parsed(cells, large()), quick());
  EXPECT_EQ(analysis.noise.differing, 1);
  EXPECT_EQ(analysis.noise.scores, 0);
  EXPECT_THAT(analysis.noise.failure, HasSubstr("1 of 2400 rows of bf16 differ"));
  expect_nothing_claimed(analysis);
}

TEST(Claims, WithoutTheRunThereAreNone) {
  auto cells = test::cells(large());
  std::erase_if(cells, [](const CellRows& rows) { return rows.cell.kind == "repeat"; });
  Analysis analysis = analyse(parsed(cells, large()), quick());
  EXPECT_EQ(analysis.noise.failure, "no A/A run was made");
  expect_nothing_claimed(analysis);
  // Nor with one that covers a part of the tasks, or of a task.
  for (const bool whole_task : {true, false}) {
    cells = test::cells(large());
    if (whole_task)
      std::erase_if(cells, [](const CellRows& rows) {
        return rows.cell.kind == "repeat" && rows.cell.name == "gsm8k";
      });
    else
      for (CellRows& rows : cells)
        if (rows.cell.kind == "repeat" && rows.cell.name == "gsm8k") rows.rows.pop_back();
    analysis = analyse(parsed(cells, large()), quick());
    EXPECT_EQ(analysis.noise.failure, "the A/A run is incomplete");
    EXPECT_THAT(analysis.noise.without, Contains("gsm8k"));
    expect_nothing_claimed(analysis);
  }
}

// Greedy answers are repeated as tasks are.
TEST(Claims, AnswersBelongToTheRun) {
  auto cells = test::cells(large());
  CellRows answers = test::cell("answers", "bf16", "text");
  test::append(answers, {{"ids", {1, 2}}, {"text", "ab"}});
  cells.push_back(answers);
  EXPECT_EQ(analyse(parsed(cells, large()), quick()).noise.failure, "the A/A run is incomplete");
  answers.cell.kind = "repeat";
  cells.push_back(answers);
  EXPECT_THAT(analyse(parsed(cells, large()), quick()).noise.failure, IsEmpty());
  cells.back().rows[0].data["ids"][1] = 3;
  EXPECT_EQ(analyse(parsed(cells, large()), quick()).noise.differing, 1);
}

// Every sentence with the word stands on a claim that is shown, or says that it is not.
TEST(Claims, LosslessIsSaidOnlyWhenShown) {
  int shown = 0, not_shown = 0;
  for (const double percent : {0.05, 1.0, 20.0})
    for (const int64_t questions : {40, 600}) {
      test::Shape shape;
      shape.questions = questions;
      shape.lossless_percent = percent;
      const Analysis analysis = analyse(test::study(shape), quick());
      for (const Recommendation& item : analysis.recommendations) {
        EXPECT_THAT(item.headline, Not(HasSubstr("lossless")));
        for (const std::string& reason : item.reasons) {
          if (reason.find("ossless") == std::string::npos) continue;
          const auto& claim = average_of(analysis, reason.substr(0, reason.find(','))).lossless;
          EXPECT_THAT(reason, HasSubstr("fixed in the plan"));
          EXPECT_EQ(reason.find("not shown") == std::string::npos, claim.shown) << reason;
          (claim.shown ? shown : not_shown) += 1;
        }
      }
      for (const Average& average : analysis.averages)
        EXPECT_EQ(average.lossless.shown, average.lossless.bound < percent / 100);
    }
  EXPECT_GT(shown, 0);
  EXPECT_GT(not_shown, 0);
}

// The margin is the plan's: no option widens it, and without one there is no claim.
TEST(Claims, TheMarginIsThePlans) {
  Options options = quick();
  options.max_loss = 0.5;
  options.margin_points = 50;
  test::Shape shape;
  shape.lossless_percent = 0.05;
  const Analysis analysis = analyse(test::study(shape), options);
  EXPECT_FALSE(average_of(analysis, "w8a8-fp").lossless.shown);
  EXPECT_THAT(analysis.warnings, Contains(HasSubstr("chosen after the run")));
  Json plan = test::plan(large());
  plan.erase("lossless_margin_percent");
  const Analysis without = analyse(parse_study(plan, nullptr, test::cells(large())), quick());
  EXPECT_EQ(average_of(without, "w8a8-fp").lossless.missing, "the plan fixes no margin");
}

// No flip among few questions shows nothing.
TEST(Claims, FewQuestionsWithoutAFlipAreNotLossless) {
  for (const int64_t questions : {100, 370, 420}) {
    std::vector<CellRows> cells;
    for (const char* format : {"bf16", "w8a8-fp"}) {
      CellRows rows = test::cell("eval", format, "arc_challenge");
      for (int64_t i = 0; i < questions; ++i)
        test::append(rows, {{"doc_id", i}, {"metrics", {{"acc", i % 20 == 0 ? 0 : 1}}}});
      cells.push_back(rows);
      if (std::string(format) != "bf16") continue;
      rows.cell.kind = "repeat";
      cells.push_back(rows);
    }
    const Analysis analysis = analyse(parsed(cells, {}), quick());
    EXPECT_EQ(analysis.tasks[0].comparisons[0].lossless.shown, questions == 420) << questions;
  }
}

}  // namespace
}  // namespace narrow::analyse
