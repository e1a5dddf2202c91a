#include "analyse/boards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "analyse/test_study.h"
#include "base/json.h"

namespace narrow::analyse {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

TEST(Boards, NormalizedIsTheLeaderboards) {
  EXPECT_EQ(normalized_score(0.2, 0.25), 0);
  EXPECT_EQ(normalized_score(0.25, 0.25), 0);
  EXPECT_DOUBLE_EQ(normalized_score(0.4, 0.25), 0.2);
  EXPECT_EQ(normalized_score(1, 0.1), 1);
  EXPECT_EQ(normalized_score(0.3, 0), 0.3);
}

// Two subtasks with 2 and 5 choices weigh alike after normalization; a generated task is raw; a
// task of V1 stays raw too, and its questions weigh alike.
CellRows choices(const std::string& format, const std::string& task,
                 std::vector<std::array<int64_t, 3>> subtasks) {
  CellRows rows = test::cell("eval", format, task);
  int subtask = 0;
  for (const auto& [questions, right, count] : subtasks) {
    for (int64_t i = 0; i < questions; ++i) {
      Json row{{"doc_id", i},
               {"subtask", "s" + std::to_string(subtask)},
               {"metrics", {{"acc_norm", i < right ? 1 : 0}}}};
      if (count > 0) row["loglikelihoods"] = std::vector<double>(static_cast<size_t>(count), -1.0);
      test::append(rows, std::move(row));
    }
    ++subtask;
  }
  return rows;
}

TEST(Boards, HaveTheStudysForm) {
  std::vector<CellRows> cells;
  for (const bool base : {true, false}) {
    const std::string format = base ? "bf16" : "w4a16-int";
    cells.push_back(choices(format, "leaderboard_bbh", {{40, base ? 30 : 25, 2}, {80, 48, 5}}));
    cells.push_back(choices(format, "leaderboard_math_hard", {{60, base ? 30 : 24, 0}}));
    cells.push_back(choices(format, "arc_challenge", {{100, base ? 60 : 57, 4}}));
    if (base) cells.push_back(choices(format, "humaneval", {{20, 10, 0}}));
  }
  cells.push_back(choices("w8a8-fp", "arc_challenge", {{100, 60, 4}}));
  const StudyRows rows = parse_study(nullptr, nullptr, cells);
  const auto boards = make_boards(rows, {"bf16", "w4a16-int", "w8a8-fp"}, "bf16", 500, 1);
  ASSERT_THAT(boards, SizeIs(3));
  EXPECT_EQ(boards[0].id, "board-v1");
  EXPECT_THAT(boards[0].rows, SizeIs(3));
  EXPECT_NEAR(boards[0].rows[1].average.value, 0.57, 1e-12);
  EXPECT_NEAR(boards[0].rows[1].recovery.ratio->value, 0.95, 1e-12);

  const Board& v2 = boards[1];
  EXPECT_TRUE(v2.normalized);
  EXPECT_THAT(v2.columns, ElementsAre("leaderboard_bbh", "leaderboard_math_hard"));
  EXPECT_THAT(v2.left_out, ElementsAre("w8a8-fp"));
  // bbh: (30/40 − .5)/.5 = .5 and (48/80 − .2)/.8 = .5; then (25/40 − .5)/.5 = .25.
  EXPECT_NEAR(v2.rows[0].columns[0].value, 0.5, 1e-12);
  EXPECT_NEAR(v2.rows[1].columns[0].value, 0.375, 1e-12);
  EXPECT_NEAR(v2.rows[0].average.value, 0.5, 1e-12);
  EXPECT_NEAR(v2.rows[1].average.value, (0.375 + 0.4) / 2, 1e-12);
  ASSERT_TRUE(v2.rows[1].recovery.ratio);
  EXPECT_NEAR(v2.rows[1].recovery.ratio->value, 0.775, 1e-12);
  ASSERT_TRUE(v2.rows[1].recovery.ratio->interval);
  EXPECT_LT(v2.rows[1].recovery.ratio->interval->low, 0.775);
  EXPECT_GT(v2.rows[1].recovery.ratio->interval->high, 0.775);
  EXPECT_EQ(boards[2].title, "Other tasks");
  EXPECT_THAT(boards[2].left_out, ElementsAre("w4a16-int", "w8a8-fp"));
}

// The values are numpy's (tests/goldens/analyse/make_goldens.py). Its interval is a bootstrap of
// the whole, ours is put together from the subtasks': in a sample of this size they agree to a
// twentieth.
TEST(Boards, IntervalsAreNumpys) {
  const Json golden =
      read_json(NARROW_SOURCE_DIR "/tests/goldens/analyse/statistics.json")["normalized"];
  std::vector<CellRows> cells;
  for (const char* side : {"a", "b"}) {
    CellRows rows =
        test::cell("eval", side == std::string("a") ? "bf16" : "int4", "leaderboard_bbh");
    for (const Json& subtask : golden["subtasks"]) {
      int64_t doc = 0;
      for (const char score : subtask[side].get<std::string>())
        test::append(rows, {{"doc_id", doc++},
                            {"subtask", subtask["name"]},
                            {"metrics", {{"acc_norm", score - '0'}}},
                            {"loglikelihoods",
                             std::vector<double>(subtask["choices"].get<size_t>(), -1.0)}});
    }
    cells.push_back(std::move(rows));
  }
  const auto boards =
      make_boards(parse_study(nullptr, nullptr, cells), {"bf16", "int4"}, "bf16", 20000, 1);
  const BoardRow& row = boards.at(0).rows.at(1);
  const auto expect_near = [](const Estimate& estimate, const Json& expected) {
    EXPECT_NEAR(estimate.value, expected["value"].get<double>(), 1e-12);
    const double low = expected["interval"][0], high = expected["interval"][1];
    EXPECT_NEAR(estimate.interval->low, low, 0.05 * (high - low));
    EXPECT_NEAR(estimate.interval->high, high, 0.05 * (high - low));
  };
  expect_near(row.average, golden["score"]);
  expect_near(row.difference, golden["difference"]);
  expect_near(*row.recovery.ratio, golden["recovery"]);
}

}  // namespace
}  // namespace narrow::analyse
