#include "analyse/boards.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "analyse/accuracy.h"
#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

constexpr double kChanceDistance = 3;  // standard errors

enum class Kind { v1, v2, other };

Kind kind_of(std::string task) {
  static const std::set<std::string> kV1 = {"arc_challenge", "gsm8k",         "hellaswag",
                                            "mmlu",          "mmlu_cot",      "truthfulqa",
                                            "winogrande",    "truthfulqa_mc2"};
  static const std::set<std::string> kV2 = {"ifeval", "bbh",  "math_hard",
                                            "gpqa",   "musr", "mmlu_pro"};
  if (task.starts_with("leaderboard_")) return Kind::v2;
  if (task.ends_with("_llama")) task.resize(task.size() - 6);
  return kV1.contains(task) ? Kind::v1 : kV2.contains(task) ? Kind::v2 : Kind::other;
}

// A subtask: its questions are drawn together, and normalized by its own guessing level.
struct Subtask {
  double chance = 0;
  std::map<int64_t, const EvalItem*> items;
};
using Subtasks = std::map<std::string, Subtask>;  // by cell's name and subtask
using ByTask = std::map<std::string, std::map<std::string, Subtasks>>;  // task, format

ByTask group(const StudyRows& rows) {
  ByTask tasks;
  for (const EvalCell& cell : rows.evals)
    for (const EvalItem& item : cell.items)
      tasks[cell.task][cell.source.format][cell.source.name + "/" + item.subtask]
          .items[item.doc_id] = &item;
  for (auto& [task, formats] : tasks)
    for (auto& [format, subtasks] : formats)
      for (auto& [name, subtask] : subtasks) {
        for (const auto& [doc, item] : subtask.items)
          if (item->choices > 1) subtask.chance += 1.0 / static_cast<double>(item->choices);
        subtask.chance /= static_cast<double>(subtask.items.size());
      }
  return tasks;
}

// Scores of the leaderboards that are no single metric: IFEval's is the mean of both strict ones.
double board_score(const EvalItem& item, const std::string& metric) {
  const auto prompt = item.metrics.find("prompt_level_strict_acc");
  const auto instruction = item.metrics.find("inst_level_strict_acc");
  if (prompt != item.metrics.end() && instruction != item.metrics.end())
    return (prompt->second + instruction->second) / 2;
  return score_of(item, metric);
}

// Guessing level of a subtask. MMLU-Pro's is the leaderboard's fixed one, although some of its
// questions have fewer than ten choices.
double chance_of(const std::string& task, const Subtask& subtask) {
  return task.ends_with("mmlu_pro") ? 0.1 : subtask.chance;
}

// A format against the baseline on a part of a board: a subtask, a column, the average.
struct Part {
  Difference difference;
  Estimate a, b;
  double error_a = 0;  // standard error of a
  double chance = 0;   // mean score of guessing
  int64_t questions = 0;
};

// Plain mean of the parts.
Part mean_of(const std::vector<Part>& parts) {
  Part result;
  std::vector<Difference> differences, a, b;
  const auto count = static_cast<double>(parts.size());
  for (const Part& part : parts) {
    differences.push_back(part.difference);
    a.push_back({part.a, 0, {}});
    b.push_back({part.b, 0, {}});
    result.error_a = std::hypot(result.error_a, part.error_a / count);
    result.chance += part.chance / count;
    result.questions += part.questions;
  }
  result.difference.estimate = average_difference(differences);
  result.a = average_difference(a);
  result.b = average_difference(b);
  return result;
}

// The value normalized, the distances to the ends stretched alike.
Estimate normalized(const Estimate& share, double chance) {
  const Interval interval = share.interval.value_or(Interval{0, 1});
  const double value = normalized_score(share.value, chance), stretch = 1 / (1 - chance);
  return {value, Interval{std::max(0.0, value - (share.value - interval.low) * stretch),
                          std::min(1.0, value + (interval.high - share.value) * stretch)}};
}

Part part_of(const PairedScores& scores, double chance, int64_t resamples, uint64_t seed) {
  Part part;
  part.questions = scores.size();
  part.difference = paired_difference(scores, resample_pairs(scores, resamples, seed));
  part.a = baseline_mean(scores);
  part.b = baseline_mean({scores.b, scores.a, scores.clusters});
  part.error_a = scores.clusters.empty() ? standard_error(scores.a)
                                         : clustered_standard_error(scores.a, scores.clusters);
  if (chance == 0) return part;
  const double stretch = 1 / (1 - chance);
  const Estimate& plain = part.difference.estimate;
  const Interval interval = plain.interval.value_or(Interval{-1, 1});
  const double value =
      normalized_score(part.b.value, chance) - normalized_score(part.a.value, chance);
  part.difference.estimate = {value, Interval{value - (plain.value - interval.low) * stretch,
                                              value + (interval.high - plain.value) * stretch}};
  part.a = normalized(part.a, chance);
  part.b = normalized(part.b, chance);
  part.error_a *= stretch;
  return part;
}

// Pairs of the questions that both have, added to `scores`. Labels of clusters go on from there.
void add_pairs(const Subtask& base, const Subtask& variant, PairedScores& scores) {
  const std::string metric = headline_metric(*base.items.begin()->second);
  std::map<std::string, int64_t> labels;
  const bool clustered = std::any_of(base.items.begin(), base.items.end(), [](const auto& entry) {
    return !entry.second->cluster.empty();
  });
  const int64_t first = scores.clusters.empty()
                            ? 0
                            : *std::max_element(scores.clusters.begin(), scores.clusters.end()) + 1;
  for (const auto& [doc, item] : base.items) {
    const auto pair = variant.items.find(doc);
    if (pair == variant.items.end() || pair->second->prompt_hash != item->prompt_hash) continue;
    scores.a.push_back(board_score(*item, metric));
    scores.b.push_back(board_score(*pair->second, metric));
    if (!clustered) continue;
    const std::string label =
        item->cluster.empty() ? "#" + std::to_string(doc) : "/" + item->cluster;
    scores.clusters.push_back(
        labels.try_emplace(label, first + static_cast<int64_t>(labels.size())).first->second);
  }
}

// Normalized: subtasks weigh alike. Otherwise questions do, whatever subtask they belong to. None
// when no question is shared.
std::optional<Part> column_of(const std::string& task, const Subtasks& base,
                              const Subtasks& variant, bool normalize, int64_t resamples,
                              uint64_t seed) {
  std::vector<Part> parts;
  PairedScores pooled;
  double chance = 0;
  for (const auto& [name, subtask] : base) {
    const auto other = variant.find(name);
    if (other == variant.end()) continue;
    if (!normalize) {
      const int64_t before = pooled.size();
      add_pairs(subtask, other->second, pooled);
      chance += subtask.chance * static_cast<double>(pooled.size() - before);
      continue;
    }
    PairedScores scores;
    add_pairs(subtask, other->second, scores);
    if (scores.size() > 0)
      parts.push_back(part_of(scores, chance_of(task, subtask), resamples, seed_for(seed, name)));
  }
  if (normalize) return parts.empty() ? std::nullopt : std::optional(mean_of(parts));
  if (pooled.size() == 0) return std::nullopt;
  // As analyse_accuracy draws: the same interval in every table.
  Part part = part_of(pooled, 0, resamples, seed);
  part.chance = chance / static_cast<double>(pooled.size());
  return part;
}

BoardRow row_of(const std::string& format, const std::vector<Part>& columns, bool is_baseline) {
  BoardRow row;
  row.format = format;
  std::vector<Difference> differences;
  std::vector<Estimate> baselines;
  for (const Part& column : columns) {
    row.columns.push_back(column.b);
    differences.push_back(column.difference);
    baselines.push_back(column.a);
  }
  const Part average = mean_of(columns);
  row.questions = average.questions;
  row.average = average.b;
  if (is_baseline) {
    row.recovery.ratio = Estimate{1, std::nullopt};
    return row;
  }
  row.difference = average.difference.estimate;
  if (average.a.value <= 0 || average.a.value - average.chance <= kChanceDistance * average.error_a)
    row.recovery.refusal = "the baseline's average is within three standard errors of chance";
  else
    row.recovery.ratio = recovery_ratio(differences, baselines);
  return row;
}

}  // namespace

double normalized_score(double share, double chance) {
  return chance < 1 ? std::max(0.0, (share - chance) / (1 - chance)) : 0;
}

std::vector<Board> make_boards(const StudyRows& rows, const std::vector<std::string>& formats,
                               const std::string& baseline, int64_t resamples, uint64_t seed) {
  std::vector<Board> boards = {{"board-v1", "Leaderboard V1", false, {}, {}, {}},
                               {"board-v2", "Leaderboard V2, normalized", true, {}, {}, {}},
                               {"board-other", "Other tasks", false, {}, {}, {}}};
  const ByTask tasks = group(rows);
  for (const EvalCell& cell : rows.evals) {  // in the order of the plan
    auto& columns = boards[static_cast<size_t>(kind_of(cell.task))].columns;
    const bool measured = tasks.contains(cell.task) && tasks.at(cell.task).contains(baseline);
    if (measured && std::find(columns.begin(), columns.end(), cell.task) == columns.end())
      columns.push_back(cell.task);
  }
  std::erase_if(boards, [](const Board& board) { return board.columns.empty(); });
  for (Board& board : boards)
    for (const std::string& format : formats) {
      std::vector<Part> columns;
      for (const std::string& task : board.columns) {
        const auto& of_task = tasks.at(task);
        const auto found = of_task.find(format);
        if (found == of_task.end()) break;
        const auto column = column_of(task, of_task.at(baseline), found->second, board.normalized,
                                      resamples, seed_for(seed, task));
        if (!column) break;
        columns.push_back(*column);
      }
      if (columns.size() == board.columns.size())
        board.rows.push_back(row_of(format, columns, format == baseline));
      else
        board.left_out.push_back(format);
    }
  return boards;
}

}  // namespace narrow::analyse
