#include "analyse/analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "analyse/accuracy.h"
#include "analyse/cost.h"
#include "analyse/divergence.h"
#include "analyse/recommend.h"

namespace narrow::analyse {
namespace {

void check(const Options& options) {
  const auto refuse = [](const std::string& what) { throw Error::refused(what, "options"); };
  if (!(options.max_loss >= 0 && options.max_loss < 1)) refuse("max loss is not within 0 to 100 %");
  if (options.margin_points && !(*options.margin_points > 0 && *options.margin_points < 100))
    refuse("the margin is not within 0 to 100 points");
  if (options.price_per_hour && !(*options.price_per_hour > 0 && *options.price_per_hour < 1e9))
    refuse("the price per hour is not a positive amount");
  const Traffic& traffic = options.traffic;
  if (!(traffic.sync_share >= 0 && traffic.async_share >= 0 &&
        traffic.sync_share + traffic.async_share > 0 &&
        std::isfinite(traffic.sync_share + traffic.async_share)))
    refuse("the shares of the traffic are not positive");
  double weights = 0;
  for (const auto& [name, weight] : traffic.scenarios) {
    if (!(weight >= 0 && weight < 1e9)) refuse("the weight of " + name + " is not positive");
    weights += weight;
  }
  if (!traffic.scenarios.empty() && weights <= 0) refuse("all scenarios weigh nothing");
  if (options.resamples < 100) refuse("fewer than 100 resamples");
}

// Baseline, then the plan's order, then whatever else was measured.
std::vector<std::string> formats_of(const StudyRows& rows, const std::string& baseline) {
  std::vector<std::string> formats{baseline};
  const auto add = [&](const std::string& format) {
    if (!format.empty() && std::find(formats.begin(), formats.end(), format) == formats.end())
      formats.push_back(format);
  };
  std::vector<std::string> measured;
  for (const auto& cell : rows.evals) measured.push_back(cell.source.format);
  for (const auto& cell : rows.loads) measured.push_back(cell.source.format);
  for (const auto& cell : rows.divergences) measured.push_back(cell.source.format);
  for (const auto& cell : rows.texts) measured.push_back(cell.source.format);
  const auto is_measured = [&](const std::string& format) {
    return std::find(measured.begin(), measured.end(), format) != measured.end();
  };
  if (measured.empty())
    throw Error::refused("the study holds no measured rows", "store",
                         "run narrow study on it first");
  if (!is_measured(baseline))
    throw Error::refused("the study holds no rows of the baseline " + baseline, "store");
  for (const auto& format :
       json_get<std::vector<std::string>>(rows.plan, "formats", "fact \"plan\"", {}))
    if (is_measured(format)) add(format);
  for (const std::string& format : measured) add(format);
  return formats;
}

std::string model_name(const StudyRows& rows) {
  std::string name = json_get<std::string>(rows.model, "name", "fact \"model\"", "");
  if (name.empty()) name = json_get<std::string>(rows.plan, "model", "fact \"plan\"", "");
  const size_t slash = name.find_last_of('/');
  if (slash != std::string::npos && slash + 1 < name.size()) name.erase(0, slash + 1);
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name;
}

std::vector<ParetoPoint> pareto_of(const Analysis& analysis) {
  std::vector<ParetoPoint> points;
  if (analysis.averages.empty()) return points;
  // Averages over different tasks do not belong into one picture.
  int64_t tasks = 0;
  for (const Average& average : analysis.averages) tasks = std::max(tasks, average.tasks);
  for (const CostResult& cost : analysis.costs) {
    ParetoPoint point;
    point.format = cost.format;
    point.mode = cost.mode;
    point.relative_cost = 1 / cost.cost_reduction.value;
    point.on_front = true;
    if (cost.cost_reduction.interval && cost.cost_reduction.interval->low > 0)
      point.cost_interval = {1 / cost.cost_reduction.interval->high,
                             1 / cost.cost_reduction.interval->low};
    bool found = false;
    for (const Average& average : analysis.averages) {
      if (average.tasks != tasks) continue;
      if (cost.format == analysis.baseline) point.accuracy = average.accuracy_a;
      if (cost.format == average.format) {
        point.accuracy = average.accuracy_b;
        if (average.difference.interval)
          point.accuracy_interval = {average.accuracy_a + average.difference.interval->low,
                                     average.accuracy_a + average.difference.interval->high};
      }
      found |= cost.format == analysis.baseline || cost.format == average.format;
    }
    if (found) points.push_back(point);
  }
  for (ParetoPoint& point : points)
    for (const ParetoPoint& other : points)
      if (other.mode == point.mode && other.relative_cost <= point.relative_cost &&
          other.accuracy >= point.accuracy &&
          (other.relative_cost < point.relative_cost || other.accuracy > point.accuracy))
        point.on_front = false;
  return points;
}

// The baseline's two runs against each other.
NoiseFloor noise_of(const StudyRows& rows, const std::string& baseline) {
  NoiseFloor noise;
  const auto repeated = [&](const std::string& name) {
    const auto found =
        std::find_if(rows.repeats.begin(), rows.repeats.end(), [&](const auto& cell) {
          return cell.source.format == baseline && cell.source.name == name;
        });
    if (found == rows.repeats.end()) return false;
    noise.cells.push_back(*found);
    noise.rows += found->rows;
    noise.differing += found->differing;
    noise.scores += found->scores;
    return found->source.finished && found->missing == 0;
  };
  for (const EvalCell& cell : rows.evals)
    if (cell.source.format == baseline && !repeated(cell.source.name))
      noise.without.push_back(cell.source.name);
  if (std::find(rows.answered.begin(), rows.answered.end(), baseline) != rows.answered.end() &&
      !repeated("text"))
    noise.without.push_back("text");
  if (noise.differing > 0)
    noise.failure = fmt::format("the A/A run failed, {} of {} rows of {} differ from themselves",
                                noise.differing, noise.rows, baseline);
  else if (noise.rows == 0)
    noise.failure = "no A/A run was made";
  else if (!noise.without.empty())
    noise.failure = "the A/A run is incomplete";
  return noise;
}

// What a reader must know before believing a figure.
void add_warnings(const StudyRows& rows, Analysis& analysis) {
  std::vector<std::string>& warnings = analysis.warnings;
  double worst = 0;
  std::string worst_task;
  int64_t fewest = 0;
  for (const TaskResult& task : analysis.tasks)
    for (const Comparison& comparison : task.comparisons) {
      if (comparison.detectable <= worst) continue;
      worst = comparison.detectable;
      worst_task = task.task;
      fewest = comparison.pairs;
    }
  if (100 * worst > analysis.margin_points)
    warnings.push_back(fmt::format(
        "Small samples: on {} ({} questions) only a difference of {:.1f} points or more would be "
        "detected with 80 % power; the margin is {:g}.",
        worst_task, fewest, 100 * worst, analysis.margin_points));
  for (const TaskResult& task : analysis.tasks)
    if (task.comparisons.empty() && !task.scores.empty())
      warnings.push_back(
          fmt::format("{} was measured on one format alone: nothing to compare.", task.task));
  const Json load = json_get<Json>(rows.plan, "load", "fact \"plan\"", Json::object());
  const auto scale = json_get<double>(load, "scale", "fact \"plan\"", 1.0);
  if (scale != 1 && !analysis.scenarios.empty())
    warnings.push_back(fmt::format(
        "The scenarios ran with their token counts multiplied by {:g}: latencies and costs are not "
        "those of the full scenarios.",
        scale));
  if (!analysis.scenarios.empty() && !analysis.price_per_hour)
    warnings.push_back(
        "No price per hour is known: costs are ratios, queries per dollar are left out.");
  if (rows.superseded > 0)
    warnings.push_back(
        fmt::format("{} cells of earlier runs with other settings are in the store and left out.",
                    rows.superseded));
  if (json_get<std::string>(rows.model, "source_format", "fact \"model\"", "") == "GGUF")
    warnings.push_back(
        "The model was read from a GGUF file: what its weights lost there, the baseline has lost "
        "too, and every format is compared with that baseline.");
  for (const auto& note :
       json_get<std::vector<std::string>>(rows.model, "notes", "fact \"model\"", {}))
    warnings.push_back(note);
  for (const FormatSummary& summary : analysis.formats) {
    if (summary.quantized)
      for (const std::string& note : summary.quantized->notes)
        warnings.push_back(summary.format + ": " + note);
    std::set<std::string> of_backends;
    for (const EnvironmentCell& environment : rows.environments)
      for (const auto& [format, note] : environment.format_notes)
        if (format == summary.format) of_backends.insert(note);
    for (const std::string& note : of_backends) warnings.push_back(summary.format + ": " + note);
  }
}

}  // namespace

Analysis analyse(const StudyRows& rows, const Options& options) {
  check(options);
  const std::vector<std::string> formats = formats_of(rows, options.baseline);
  Analysis analysis;
  analysis.plan = rows.plan;
  analysis.model_fact = rows.model;
  analysis.study = json_get<std::string>(rows.plan, "name", "fact \"plan\"", "study");
  analysis.model = model_name(rows);
  analysis.baseline = options.baseline;
  analysis.max_loss = options.max_loss;
  analysis.margin_points = options.margin_points.value_or(
      json_get<double>(rows.plan, "margin_points", "fact \"plan\"", 1.0));
  analysis.price_per_hour = price_of(rows, options.baseline, options);
  analysis.hardware = options.hardware;
  analysis.resamples = options.resamples;
  analysis.seed = options.seed;
  analysis.environments = rows.environments;
  if (analysis.hardware.empty() && !rows.environments.empty())
    analysis.hardware = rows.environments.front().hardware;

  const auto lossless =
      json_get<double>(rows.plan, "lossless_margin_percent", "fact \"plan\"", 0.0);
  if (lossless > 0) analysis.lossless_margin = lossless / 100;
  analysis.noise = noise_of(rows, options.baseline);
  const std::string& silenced = analysis.noise.failure;

  AccuracyResults accuracy = analyse_accuracy(
      rows, formats, {analysis.margin_points / 100, analysis.lossless_margin, silenced}, options);
  analysis.tasks = std::move(accuracy.tasks);
  analysis.averages = std::move(accuracy.averages);
  analysis.boards = make_boards(rows, formats, options.baseline, options.resamples, options.seed);
  analysis.divergences = analyse_divergence(rows, formats, options);
  analysis.texts = analyse_texts(rows, formats, options);
  CostResults cost = analyse_cost(rows, formats, options);
  analysis.scenarios = std::move(cost.scenarios);
  analysis.costs = std::move(cost.costs);

  for (const std::string& format : formats) {
    FormatSummary summary;
    summary.format = format;
    if (format == options.baseline) summary.loss = LossVerdict::within;
    for (const Average& average : analysis.averages)
      if (average.format == format) summary.loss = average.loss;
    for (const QuantizeCell& quantized : rows.quantized)
      if (quantized.source.format == format) summary.quantized = quantized;
    analysis.formats.push_back(std::move(summary));
  }
  analysis.pareto = pareto_of(analysis);
  if (!analysis.averages.empty() && !silenced.empty())
    analysis.warnings.push_back(
        "Nothing is claimed about accuracy: " + silenced +
        ". Differences are shown as measured and may be noise of the measurement.");
  if (options.margin_points &&
      *options.margin_points != json_get<double>(rows.plan, "margin_points", "fact \"plan\"", 1.0))
    analysis.warnings.push_back(fmt::format(
        "The margin of {:g} points was chosen after the run: its verdicts are exploratory.",
        *options.margin_points));
  add_warnings(rows, analysis);
  analysis.samples = rows.samples;
  analysis.warnings.insert(analysis.warnings.end(), accuracy.warnings.begin(),
                           accuracy.warnings.end());
  analysis.warnings.insert(analysis.warnings.end(), cost.warnings.begin(), cost.warnings.end());
  analysis.recommendations = recommend(analysis, options);
  return analysis;
}

}  // namespace narrow::analyse
