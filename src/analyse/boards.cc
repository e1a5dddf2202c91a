#include "analyse/boards.h"

#include <algorithm>
#include <cmath>
#include <map>
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

// One task of one format against the baseline: values of both on the sample and on each resample.
struct Column {
  double a = 0, b = 0;
  std::vector<double> resampled_a, resampled_b;
  double variance_a = 0;  // of a
  double chance = 0;      // mean score of guessing
  int64_t questions = 0;
};

// Guessing level of a subtask. MMLU-Pro's is the leaderboard's fixed one, although some of its
// questions have fewer than ten choices.
double chance_of(const std::string& task, const Subtask& subtask) {
  return task.ends_with("mmlu_pro") ? 0.1 : subtask.chance;
}

// Of a column that is normalized: subtasks weigh alike. Otherwise: questions do, whatever subtask
// they belong to.
Column column_of(const std::string& task, const Subtasks& base, const Subtasks& variant,
                 bool normalized, int64_t resamples, uint64_t seed) {
  Column column;
  const auto count = static_cast<size_t>(resamples);
  column.resampled_a.assign(count, 0);
  column.resampled_b.assign(count, 0);
  double weights = 0;
  for (const auto& [name, subtask] : base) {
    const auto other = variant.find(name);
    if (other == variant.end()) continue;
    const std::string metric = headline_metric(*subtask.items.begin()->second);
    PairedScores scores;
    std::map<std::string, int64_t> labels;
    bool clustered = false;
    for (const auto& [doc, item] : subtask.items) clustered |= !item->cluster.empty();
    for (const auto& [doc, item] : subtask.items) {
      const auto pair = other->second.items.find(doc);
      if (pair == other->second.items.end() || pair->second->prompt_hash != item->prompt_hash)
        continue;
      scores.a.push_back(board_score(*item, metric));
      scores.b.push_back(board_score(*pair->second, metric));
      if (!clustered) continue;
      const std::string label =
          item->cluster.empty() ? "#" + std::to_string(doc) : "/" + item->cluster;
      scores.clusters.push_back(
          labels.try_emplace(label, static_cast<int64_t>(labels.size())).first->second);
    }
    if (scores.size() == 0) continue;
    const double weight = normalized ? 1 : static_cast<double>(scores.size());
    const double chance = normalized ? chance_of(task, subtask) : 0;
    const double slope = 1 / (1 - std::min(chance, 0.99));
    const Resamples drawn = resample_pairs(scores, resamples, seed_for(seed, name));
    column.a += weight * normalized_score(mean(scores.a), chance);
    column.b += weight * normalized_score(mean(scores.b), chance);
    for (size_t i = 0; i < count; ++i) {
      column.resampled_a[i] += weight * normalized_score(drawn.mean_a[i], chance);
      column.resampled_b[i] += weight * normalized_score(drawn.mean_b[i], chance);
    }
    const double error = weight * slope *
                         (clustered ? clustered_standard_error(scores.a, scores.clusters)
                                    : standard_error(scores.a));
    column.variance_a += error * error;
    column.chance += normalized ? 0 : weight * subtask.chance;
    column.questions += scores.size();
    weights += weight;
  }
  if (weights == 0) return column;
  column.a /= weights;
  column.b /= weights;
  column.chance /= weights;
  column.variance_a /= weights * weights;
  for (size_t i = 0; i < count; ++i) {
    column.resampled_a[i] /= weights;
    column.resampled_b[i] /= weights;
  }
  return column;
}

// Without anything to vary there is no interval: that is no certainty.
Estimate estimate(double value, std::vector<double> resampled) {
  const Interval interval = percentile_interval(resampled);
  if (interval.low == interval.high) return {value, std::nullopt};
  return {value, interval};
}

BoardRow row_of(const std::string& format, const std::vector<Column>& columns, bool is_baseline) {
  BoardRow row;
  row.format = format;
  const auto count = static_cast<double>(columns.size());
  std::vector<double> a(columns.front().resampled_a.size()), b(a.size()), ratios(a.size()),
      differences(a.size());
  double mean_a = 0, mean_b = 0, variance = 0, chance = 0;
  for (const Column& column : columns) {
    row.questions += column.questions;
    row.columns.push_back(estimate(column.b, column.resampled_b));
    mean_a += column.a / count;
    mean_b += column.b / count;
    variance += column.variance_a / (count * count);
    chance += column.chance / count;
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] += column.resampled_a[i] / count;
      b[i] += column.resampled_b[i] / count;
    }
  }
  row.average = estimate(mean_b, b);
  if (is_baseline) {
    row.recovery.ratio = Estimate{1, std::nullopt};
    return row;
  }
  for (size_t i = 0; i < a.size(); ++i) {
    differences[i] = b[i] - a[i];
    ratios[i] = a[i] > 0 ? b[i] / a[i] : 0;  // none at nothing: the far end
  }
  row.difference = estimate(mean_b - mean_a, differences);
  if (mean_a <= 0 || mean_a - chance <= kChanceDistance * std::sqrt(variance))
    row.recovery.refusal = "the baseline's average is within three standard errors of chance";
  else
    row.recovery.ratio = estimate(mean_b / mean_a, ratios);
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
      std::vector<Column> columns;
      for (const std::string& task : board.columns) {
        const auto& of_task = tasks.at(task);
        const auto found = of_task.find(format);
        if (found == of_task.end()) break;
        columns.push_back(column_of(task, of_task.at(baseline), found->second, board.normalized,
                                    resamples, seed_for(seed, task)));
        if (columns.back().questions > 0) continue;
        columns.pop_back();
        break;
      }
      if (columns.size() == board.columns.size())
        board.rows.push_back(row_of(format, columns, format == baseline));
      else
        board.left_out.push_back(format);
    }
  return boards;
}

}  // namespace narrow::analyse
