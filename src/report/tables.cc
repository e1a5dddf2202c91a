#include "report/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "analyse/cost.h"
#include "report/numbers.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using analyse::Claim;
using analyse::Comparison;
using analyse::Mode;

Cell text(std::string value, std::string source = {}) {
  return {std::move(value), {}, std::move(source), false, std::nullopt, {}};
}

// A number and its interval.
Cell estimate(std::string value, std::string interval, std::string source = {}) {
  return {std::move(value), std::move(interval), std::move(source), false, std::nullopt, {}};
}

Cell format_cell(const std::string& format) {
  return {format, {}, {}, false, std::nullopt, format};
}

std::string join(const std::vector<std::string>& ids) {
  // A group of many cells (MMLU has 57) names the first few.
  constexpr size_t kShown = 4;
  std::string result;
  for (size_t i = 0; i < std::min(ids.size(), kShown); ++i) result += (i == 0 ? "" : " ") + ids[i];
  if (ids.size() > kShown) result += fmt::format(" and {} more", ids.size() - kShown);
  return result;
}

template <class T>
const T* find(const std::vector<T>& list, const std::string& format) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const T& item) { return item.format == format; });
  return found == list.end() ? nullptr : &*found;
}

const analyse::CostResult* cost_of(const Analysis& analysis, const std::string& format, Mode mode) {
  for (const auto& cost : analysis.costs)
    if (cost.format == format && cost.mode == mode) return &cost;
  return nullptr;
}

Cell recovery_cell(const analyse::Recovery& recovery) {
  if (!recovery.ratio) return text("–", recovery.refusal);
  const int digits = decimals(100 * error_of(recovery.ratio->interval), 1);
  return estimate(percent(recovery.ratio->value, digits),
                  range(recovery.ratio->interval, 100, digits));
}

Cell cost_cell(const analyse::CostResult* cost, bool is_baseline) {
  if (cost == nullptr) return text("–");
  if (is_baseline) return text("1");
  const int digits = std::clamp(decimals(error_of(cost->cost_reduction.interval), 2), 1, 3);
  Cell cell = estimate(fixed(cost->cost_reduction.value, digits),
                       range(cost->cost_reduction.interval, 1, digits));
  cell.strong = analyse::shown_cheaper(*cost);
  return cell;
}

// What the test and the interval allow one to say, in the table's last column.
std::string verdict(const Comparison& comparison, bool claims) {
  if (!claims) return "nothing claimed";
  const bool rejected = comparison.decidable && comparison.p_holm < 0.05;
  switch (comparison.claim) {
    case Claim::equivalent:
      return rejected ? "differs, within ± margin" : "within ± margin";
    case Claim::non_inferior:
      return rejected ? "differs, loss below margin" : "loss below margin";
    case Claim::worse:
      return "loss above margin";
    case Claim::cannot_tell:
      if (!rejected) return "cannot tell";
      return comparison.difference.estimate.value < 0 ? "worse; how much is open" : "better";
  }
  return {};
}

// "lossless within 1 %" or "lossless not shown": the word stands only with its margin.
std::string lossless_words(const analyse::LosslessClaim& claim, std::optional<double> margin) {
  if (!claim.shown) return "lossless: not shown";
  return fmt::format("lossless within {:g} %", 100 * *margin);
}

std::string test_words(const Comparison& comparison) {
  if (!comparison.decidable) return "cannot decide";
  return p_value(comparison.p_holm);
}

std::string lossless_note(const Analysis& analysis) {
  if (!analysis.lossless_margin) return "The plan fixes no margin, so nothing is called lossless.";
  return fmt::format(
      "Lossless: shown to lose less than {:g} % of the baseline's average accuracy, the margin "
      "that "
      "the plan fixed; one-sided at 2.5 %.",
      100 * *analysis.lossless_margin);
}

Cell lossless_cell(const analyse::LosslessClaim& claim) {
  Cell cell = text(claim.shown ? "shown" : "not shown");
  cell.detail = claim.shown ? fmt::format("loss below {:.2g} %", 100 * claim.bound) : claim.missing;
  cell.strong = claim.shown;
  return cell;
}

}  // namespace

Table overview_table(const Analysis& analysis) {
  Table table{
      "overview",
      "All formats at a glance",
      "Cost reduction: how many times cheaper a query is than on the baseline, mean over the "
      "scenarios. Small: 95 % intervals. Bold only where the rows show it. " +
          lossless_note(analysis),
      {"format", "size", "bits per weight", "average accuracy", "difference in points", "recovery",
       "lossless", "mean KL, nats", "same top token", "cost reduction, synchronous",
       "cost reduction, asynchronous"},
      {}};
  double extent = analysis.margin_points / 200;
  for (const auto& average : analysis.averages)
    if (average.difference.interval)
      extent = std::max({extent, std::abs(average.difference.interval->low),
                         std::abs(average.difference.interval->high)});
  for (const auto& summary : analysis.formats) {
    const bool is_baseline = summary.format == analysis.baseline;
    const auto* average = find(analysis.averages, summary.format);
    const auto* divergence = find(analysis.divergences, summary.format);
    std::vector<Cell> row{format_cell(summary.format)};
    if (summary.quantized) {
      row.push_back(text(bytes(summary.quantized->checkpoint_bytes), summary.quantized->source.id));
      row.push_back(
          text(fixed(summary.quantized->bits_per_weight, 2), summary.quantized->source.id));
    } else {
      row.insert(row.end(), 2, text("–"));
    }
    if (is_baseline) {
      row.push_back(
          text(analysis.averages.empty() ? "–" : percent(analysis.averages.front().accuracy_a, 1)));
      row.push_back(text("baseline"));
      row.push_back(text(analysis.averages.empty() ? "–" : "100 %"));
      row.push_back(text(""));
    } else if (average != nullptr) {
      const int digits = decimals(100 * error_of(average->difference.interval), 1);
      row.push_back(text(percent(average->accuracy_b, 1)));
      Cell difference = estimate(points(average->difference.value, digits),
                                 signed_range(average->difference.interval, 100, digits));
      difference.strip =
          Strip{average->difference.interval->low, average->difference.value,
                average->difference.interval->high, analysis.margin_points / 200, extent};
      difference.strong = average->claim != Claim::cannot_tell;
      row.push_back(difference);
      row.push_back(recovery_cell(average->recovery));
      row.push_back(lossless_cell(average->lossless));
    } else {
      row.insert(row.end(), 4, text("–"));
    }
    if (divergence != nullptr) {
      row.push_back(text(significant(divergence->mean_kl.value, 2), divergence->source));
      row.push_back(text(percent(divergence->top1_agreement.value, 1), divergence->source));
    } else {
      row.insert(row.end(), 2, text("–"));
    }
    row.push_back(cost_cell(cost_of(analysis, summary.format, Mode::sync), is_baseline));
    row.push_back(cost_cell(cost_of(analysis, summary.format, Mode::async), is_baseline));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::vector<Table> board_tables(const Analysis& analysis) {
  std::vector<Table> tables;
  for (const analyse::Board& board : analysis.boards) {
    Table table{board.id, board.title, "", {"format", "recovery", "average"}, {}};
    table.note = board.normalized
                     ? "Scores from 0 at guessing to 100, each subtask by its own guessing level."
                     : "Scores in percent.";
    table.note +=
        " Average: plain mean of the tasks. Recovery: average over the baseline's. Small: 95 % "
        "intervals; the margin of error of a difference is in the tables below.";
    for (const std::string& format : board.left_out)
      table.note += fmt::format(" {} lacks a task and is left out.", format);
    table.columns.insert(table.columns.end(), board.columns.begin(), board.columns.end());
    const auto score = [](const analyse::Estimate& value) {
      const int digits = decimals(100 * error_of(value.interval), 1);
      return estimate(fixed(100 * value.value, digits), range(value.interval, 100, digits));
    };
    for (const analyse::BoardRow& row : board.rows) {
      std::vector<Cell> cells{
          format_cell(row.format),
          row.format == analysis.baseline ? text("100 %") : recovery_cell(row.recovery),
          score(row.average)};
      for (const analyse::Estimate& column : row.columns) cells.push_back(score(column));
      table.rows.push_back(std::move(cells));
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

std::optional<Table> noise_table(const Analysis& analysis) {
  if (analysis.noise.cells.empty()) return std::nullopt;
  Table table{"noise",
              "The baseline against itself",
              "Asked a second time, in another order and in other batches. Rows that differ are "
              "noise of the measurement: 0 is expected, and anything else silences every claim.",
              {"task", "rows", "rows that differ", "scores that differ", "rows missing"},
              {}};
  for (const auto& cell : analysis.noise.cells) {
    Cell differing = text(whole(cell.differing), cell.source.id);
    differing.strong = cell.differing > 0;
    table.rows.push_back({text(cell.source.name), text(whole(cell.rows), cell.source.id), differing,
                          text(whole(cell.scores), cell.source.id),
                          text(whole(cell.missing), cell.source.id)});
  }
  return table;
}

std::vector<Table> task_tables(const Analysis& analysis) {
  std::vector<Table> tables;
  for (const auto& task : analysis.tasks) {
    Table table{"task-" + task.task, task.task, "", {}, {}};
    const auto count = task.scores.empty() ? 0 : task.scores.front().count;
    table.note = fmt::format("{} questions, metric {}", whole(count), task.metric);
    if (task.chance > 0) table.note += ", guessing gives " + percent(task.chance, 0);
    if (task.clustered) table.note += ", questions in clusters";
    table.note += ".";
    table.columns = {"format",          "accuracy", "difference in points", "lost",     "gained",
                     "answers changed", "p (Holm)", "would detect",         "recovery", "verdict"};
    double extent = analysis.margin_points / 100;
    for (const Comparison& comparison : task.comparisons)
      if (comparison.difference.estimate.interval)
        extent = std::max({extent, std::abs(comparison.difference.estimate.interval->low),
                           std::abs(comparison.difference.estimate.interval->high)});
    for (const auto& score : task.scores) {
      const std::string ids = join(score.sources);
      const int digits = decimals(100 * score.standard_error, 1);
      std::vector<Cell> row{format_cell(score.format),
                            estimate(percent(score.accuracy.value, digits),
                                     range(score.accuracy.interval, 100, digits), ids)};
      const Comparison* comparison = find(task.comparisons, score.format);
      if (comparison == nullptr) {
        row.push_back(text(score.format == analysis.baseline ? "baseline" : "–"));
        row.insert(row.end(), 7, text(""));
        table.rows.push_back(std::move(row));
        continue;
      }
      const std::string pair_ids = join(comparison->sources);
      const auto& difference = comparison->difference.estimate;
      const int difference_digits = decimals(100 * error_of(difference.interval), 1);
      Cell cell = estimate(points(difference.value, difference_digits),
                           signed_range(difference.interval, 100, difference_digits), pair_ids);
      if (difference.interval)
        cell.strip = Strip{difference.interval->low, difference.value, difference.interval->high,
                           analysis.margin_points / 100, extent};
      row.push_back(cell);
      row.push_back(text(whole(comparison->lost), pair_ids));
      row.push_back(text(whole(comparison->gained), pair_ids));
      row.push_back(text(percent(comparison->answer_changed.value, 1), pair_ids));
      row.push_back(text(test_words(*comparison), comparison->test));
      row.push_back(text(fixed(100 * comparison->detectable, 1) + " points"));
      row.push_back(recovery_cell(comparison->recovery));
      Cell said = text(verdict(*comparison, analysis.noise.failure.empty()));
      said.detail = lossless_words(comparison->lossless, analysis.lossless_margin);
      said.strong = comparison->claim != Claim::cannot_tell;
      row.push_back(said);
      table.rows.push_back(std::move(row));
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

std::optional<Table> divergence_table(const Analysis& analysis) {
  if (analysis.divergences.empty()) return std::nullopt;
  Table table{"divergence",
              "Next-token distributions against the baseline",
              "KL divergence from the baseline's distribution to the format's, in nats per token; "
              "intervals resample whole windows.",
              {"format", "text", "mean KL", "99th percentile", "same top token", "perplexity",
               "baseline's", "ratio", "tokens"},
              {}};
  for (const auto& item : analysis.divergences) {
    const int agree_digits = decimals(100 * error_of(item.top1_agreement.interval), 1);
    const int ratio_digits = decimals(error_of(item.perplexity_ratio.interval), 3);
    const bool kl_known = error_of(item.mean_kl.interval) > 0;
    const std::string kl_range =
        kl_known ? fmt::format("{} to {}", significant(item.mean_kl.interval->low),
                               significant(item.mean_kl.interval->high))
                 : "";
    table.rows.push_back(
        {format_cell(item.format), text(item.text),
         estimate(significant(item.mean_kl.value), kl_range, item.source),
         text(significant(item.kl_p99), item.source),
         estimate(percent(item.top1_agreement.value, agree_digits),
                  range(item.top1_agreement.interval, 100, agree_digits), item.source),
         text(fixed(item.perplexity, 2), item.source),
         text(fixed(item.perplexity_base, 2), item.source),
         estimate(fixed(item.perplexity_ratio.value, ratio_digits),
                  range(item.perplexity_ratio.interval, 1, ratio_digits), item.source),
         text(whole(item.positions), item.source)});
  }
  return table;
}

std::optional<Table> text_table(const Analysis& analysis) {
  if (analysis.texts.empty()) return std::nullopt;
  Table table{"texts",
              "Greedy answers against the baseline's",
              "F-measures (STS: a cosine), 1 at most, mean over the prompts. A small change early "
              "in a text makes the "
              "rest different without making it worse.",
              {"format", "ROUGE-1", "ROUGE-2", "ROUGE-L", "STS", "BERTScore", "identical",
               "median token of first difference", "prompts"},
              {}};
  for (const auto& item : analysis.texts) {
    const auto score = [&](const analyse::Estimate& value) {
      const int digits = decimals(error_of(value.interval), 2);
      return estimate(fixed(value.value, digits), range(value.interval, 1, digits), item.source);
    };
    const auto score_if = [&](const std::optional<analyse::Estimate>& value) {
      return value ? score(*value) : text("–");
    };
    table.rows.push_back(
        {format_cell(item.format), score(item.rouge1), score(item.rouge2), score(item.rougeL),
         score_if(item.sts), score_if(item.bertscore), text(whole(item.identical), item.source),
         text(item.median_divergence ? fixed(*item.median_divergence, 0) : "–", item.source),
         text(whole(item.prompts), item.source)});
  }
  return table;
}

std::vector<Table> load_tables(const Analysis& analysis) {
  std::vector<Table> tables;
  const auto latency = [](const analyse::Latency& value, const std::string& source) {
    if (value.count == 0) return text("–");
    const std::string interval = value.p50_interval
                                     ? fmt::format("{} to {}", seconds(value.p50_interval->low),
                                                   seconds(value.p50_interval->high))
                                     : "";
    return estimate(seconds(value.p50), interval, source);
  };
  const auto tail = [](const analyse::Latency& value, const std::string& source) {
    if (!value.p90) return text("–");
    return text(seconds(*value.p90) + (value.p99 ? " / " + seconds(*value.p99) : " / –"), source);
  };
  for (const Mode mode : {Mode::sync, Mode::async}) {
    Table table{
        mode == Mode::sync ? "load-sync" : "load-async",
        mode == Mode::sync ? "Synchronous: one request after the other"
                           : "Asynchronous: requests served together",
        "Medians, with intervals between order statistics where the requests allow one. p90 needs "
        "100 requests, p99 needs 1000.",
        {"scenario", "format", "latency", "p90 / p99", "time to first token", "between tokens",
         "queries per second", "tokens per second", "queries per dollar", "requests"},
        {}};
    for (const auto& item : analysis.scenarios) {
      if (item.mode != mode) continue;
      table.rows.push_back(
          {text(item.scenario), format_cell(item.format), latency(item.e2e, item.source),
           tail(item.e2e, item.source), latency(item.ttft, item.source),
           latency(item.itl, item.source), text(significant(item.queries_per_second), item.source),
           text(significant(item.output_tokens_per_second), item.source),
           text(item.queries_per_dollar ? significant(*item.queries_per_dollar) : "–", item.source),
           text(whole(item.requests), item.source)});
    }
    if (!table.rows.empty()) tables.push_back(std::move(table));
  }
  return tables;
}

std::optional<Table> quantization_table(const Analysis& analysis) {
  Table table{
      "quantization",
      "What quantization did",
      "Weight error: |W − Q| / |W| of a layer. Output error: the same of the layer's output "
      "on calibration inputs, which is what the calibrated recipes make small, at the cost "
      "of the weights'. Small: the worst layer.",
      {"format", "recipe", "size", "bits per weight", "read per token", "calibration", "made in",
       "median weight error", "median output error"},
      {}};
  // Median over the layers that have the figure, and the worst of them.
  const auto error_cell = [](const analyse::QuantizeCell& made, const auto& error_of_layer) {
    std::vector<double> errors;
    const analyse::QuantizedLayer* worst = nullptr;
    for (const auto& layer : made.layers) {
      const std::optional<double> error = error_of_layer(layer);
      if (!error) continue;
      errors.push_back(*error);
      if (worst == nullptr || *error > *error_of_layer(*worst)) worst = &layer;
    }
    if (errors.empty()) return text("–", made.source.id);
    std::sort(errors.begin(), errors.end());
    return estimate(significant(analyse::quantile_of_sorted(errors, 0.5), 2),
                    fmt::format("{} {}", significant(errors.back(), 2), worst->module),
                    made.source.id);
  };
  for (const auto& summary : analysis.formats) {
    if (!summary.quantized) continue;
    const auto& made = *summary.quantized;
    const std::string& id = made.source.id;
    std::string calibration = made.calibration.empty() ? "none" : made.calibration;
    if (made.calibration_tokens > 0)
      calibration += fmt::format(", {} tokens", whole(made.calibration_tokens));
    table.rows.push_back(
        {format_cell(summary.format), text(made.recipe, id), text(bytes(made.checkpoint_bytes), id),
         text(fixed(made.bits_per_weight, 2), id), text(bytes(made.weight_bytes_per_token), id),
         text(calibration, id), text(made.seconds > 0 ? seconds(made.seconds) : "–", id),
         error_cell(made, [](const auto& layer) { return std::optional(layer.relative_error); }),
         error_cell(made, [](const auto& layer) { return layer.output_error; })});
  }
  if (table.rows.empty()) return std::nullopt;
  return table;
}

std::optional<Table> environment_table(const Analysis& analysis) {
  if (analysis.environments.empty()) return std::nullopt;
  Table table{"environment",
              "Where it ran",
              "",
              {"processor", "hardware", "backend", "threads", "memory", "price per hour", "narrow"},
              {}};
  for (const auto& item : analysis.environments)
    table.rows.push_back(
        {text(item.cpu, item.source.id), text(item.hardware), text(item.backend),
         text(whole(item.threads)), text(bytes(item.memory_bytes)),
         text(item.price_per_hour > 0 ? "$ " + significant(item.price_per_hour) : "unknown"),
         text(item.version)});
  return table;
}

std::vector<std::string> reproduction(const Analysis& analysis) {
  // A word of a shell command on one line, quoted where it is not plain.
  const auto word = [](const std::string& plain) {
    const auto is_plain = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("._/-", c) != nullptr;
    };
    if (!plain.empty() && std::all_of(plain.begin(), plain.end(), is_plain)) return plain;
    std::string quoted = "'";
    for (const char c : plain) quoted += c == '\'' ? "'\\''" : std::string(1, c == '\n' ? ' ' : c);
    return quoted + "'";
  };
  const std::string model =
      json_get<std::string>(analysis.plan, "model", "fact \"plan\"", analysis.model);
  return {fmt::format("narrow study {} --suite {} -o STUDY", model.empty() ? "MODEL" : word(model),
                      word(analysis.study)),
          "narrow recommend STUDY", "narrow report STUDY -o report.html"};
}

}  // namespace narrow::report
