// Tables in the form of the study's: a row for each format, a column for each task, the average and
// its recovery. The tasks of the Open LLM Leaderboard V2 are normalized as the leaderboard does:
// 0 at guessing, 1 at all right.
#pragma once

#include <string>
#include <vector>

#include "analyse/paired.h"
#include "analyse/rows.h"

namespace narrow::analyse {

struct BoardRow {
  std::string format;
  int64_t questions = 0;
  std::vector<Estimate> columns;  // 0 to 1
  Estimate average;               // plain mean of the columns
  Estimate difference;  // to the baseline's average; of the baseline 0 without an interval
  Recovery recovery;    // average / the baseline's average
};

struct Board {
  std::string id, title;
  bool normalized = false;
  std::vector<std::string> columns;   // tasks
  std::vector<BoardRow> rows;         // baseline first; formats that have every column
  std::vector<std::string> left_out;  // formats that lack a task, or share no question of one
};

// Normalized score of a share: 0 up to guessing, then straight to 1.
double normalized_score(double share, double chance);

// Leaderboard V1, Leaderboard V2, the other tasks; those without a task are left out. Only
// questions that baseline and format both have count, in the format's row. Intervals are put
// together from those of the subtasks (paired.h); normalizing stretches them by 1 / (1 − chance),
// and where it cuts at guessing they are wider than they need be.
std::vector<Board> make_boards(const StudyRows& rows, const std::vector<std::string>& formats,
                               const std::string& baseline, int64_t resamples, uint64_t seed);

}  // namespace narrow::analyse
