#include <fmt/format.h>

#include "base/file.h"
#include "report/escape.h"
#include "report/report.h"
#include "report/tables.h"

namespace narrow::report {
namespace {

using analyse::Analysis;

std::string words(const Cell& cell) {
  return cell.detail.empty() ? cell.text : cell.text + " (" + cell.detail + ")";
}

std::string markdown_table(const Table& table) {
  std::string result = fmt::format("### {}\n\n", escape_markdown(table.title));
  if (!table.note.empty()) result += escape_markdown(table.note) + "\n\n";
  for (const std::string& column : table.columns) result += "| " + escape_markdown(column) + " ";
  result += "|\n";
  for (size_t i = 0; i < table.columns.size(); ++i) result += i == 0 ? "| --- " : "| ---: ";
  result += "|\n";
  for (const auto& row : table.rows) {
    for (const Cell& cell : row)
      result += cell.strong ? "| **" + escape_markdown(words(cell)) + "** "
                            : "| " + escape_markdown(words(cell)) + " ";
    result += "|\n";
  }
  return result + "\n";
}

// One line of the long CSV form.
class Lines {
 public:
  void add(const std::string& section, const std::string& format, const std::string& name,
           const std::string& metric, double value,
           const std::optional<analyse::Interval>& interval, const std::string& source) {
    text_ +=
        fmt::format("{},{},{},{},{},{},{},{}\n", section, escape_csv(format), escape_csv(name),
                    escape_csv(metric), value, interval ? fmt::format("{}", interval->low) : "",
                    interval ? fmt::format("{}", interval->high) : "", escape_csv(source));
  }
  void add(const std::string& section, const std::string& format, const std::string& name,
           const std::string& metric, const analyse::Estimate& estimate,
           const std::string& source) {
    add(section, format, name, metric, estimate.value, estimate.interval, source);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_ = "section,format,name,metric,value,low,high,source\n";
};

std::string join(const std::vector<std::string>& ids) {
  std::string result;
  for (const std::string& id : ids) result += (result.empty() ? "" : " ") + id;
  return result;
}

}  // namespace

std::string summary(const Analysis& analysis) {
  std::string result;
  for (const auto& item : analysis.recommendations)
    result += fmt::format(
        "{:<13} {}{}\n", item.traffic,
        item.format ? visible(*item.format) + (item.supported ? ": " : " (provisional): ") : "",
        visible(item.headline));
  const Table table = overview_table(analysis);
  // The columns that fit a terminal: format, size, accuracy, difference, lossless, KL, cost
  // reductions. What a claim of losslessness lacks is in the reasons of a report.
  static constexpr size_t kLossless = 6;
  static constexpr size_t kColumns[] = {0, 1, 3, 4, kLossless, 7, 9, 10};
  const auto display_width = [](const std::string& text) {
    size_t width = 0;
    for (const char c : text) width += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return width;
  };
  result += "\n";
  std::vector<std::vector<std::string>> lines(1);
  for (const size_t column : kColumns) lines[0].push_back(table.columns[column]);
  for (const auto& row : table.rows) {
    lines.emplace_back();
    for (const size_t column : kColumns)
      lines.back().push_back(visible(column == kLossless ? row[column].text : words(row[column])));
  }
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      size_t width = 0;
      for (const auto& other : lines) width = std::max(width, display_width(other[i]));
      const std::string padding(width - display_width(line[i]), ' ');
      result += i == 0 ? line[i] + padding : "  " + padding + line[i];
    }
    result += "\n";
  }
  if (analysis.noise.rows > 0)
    result +=
        fmt::format("\nA/A run: {} of {} rows of {} differ from themselves.\n",
                    analysis.noise.differing, analysis.noise.rows, visible(analysis.baseline));
  if (!analysis.warnings.empty()) result += "\n";
  for (const std::string& warning : analysis.warnings) result += "! " + visible(warning) + "\n";
  return result;
}

std::string markdown(const Analysis& analysis) {
  std::string result =
      fmt::format("# Which precision to serve {} in\n\n", escape_markdown(analysis.model));
  result += fmt::format("Study {}, hardware {}, baseline {}.\n\n## Recommendation\n\n",
                        escape_markdown(analysis.study), escape_markdown(analysis.hardware),
                        escape_markdown(analysis.baseline));
  for (const auto& item : analysis.recommendations) {
    result += fmt::format(
        "- **{}**: {}{}\n", item.traffic,
        item.format ? escape_markdown(*item.format) + (item.supported ? ": " : " (provisional): ")
                    : "",
        escape_markdown(item.headline));
    for (const std::string& reason : item.reasons)
      result += "  - " + escape_markdown(reason) + "\n";
  }
  if (!analysis.warnings.empty()) result += "\n## Before you rely on this\n\n";
  for (const std::string& warning : analysis.warnings)
    result += "- " + escape_markdown(warning) + "\n";
  result += "\n## Formats\n\n" + markdown_table(overview_table(analysis));
  result += "## Accuracy\n\n";
  for (const Table& table : board_tables(analysis)) result += markdown_table(table);
  if (const auto table = noise_table(analysis)) result += markdown_table(*table);
  for (const Table& table : task_tables(analysis)) result += markdown_table(table);
  result += "## Cost and speed\n\n";
  for (const Table& table : load_tables(analysis)) result += markdown_table(table);
  result += "## Closeness to the baseline\n\n";
  if (const auto table = divergence_table(analysis)) result += markdown_table(*table);
  if (const auto table = text_table(analysis)) result += markdown_table(*table);
  result += "## Quantization and provenance\n\n";
  if (const auto table = quantization_table(analysis)) result += markdown_table(*table);
  if (const auto table = environment_table(analysis)) result += markdown_table(*table);
  for (const std::string& command : reproduction(analysis))
    result += "    " + visible(command) + "\n";
  return result;
}

std::string csv(const Analysis& analysis) {
  Lines lines;
  for (const auto& task : analysis.tasks) {
    for (const auto& score : task.scores)
      lines.add("accuracy", score.format, task.task, task.metric, score.accuracy,
                join(score.sources));
    for (const auto& item : task.comparisons) {
      const std::string ids = join(item.sources);
      lines.add("accuracy", item.format, task.task, "difference", item.difference.estimate, ids);
      const auto plain = [&](const char* metric, double value) {
        lines.add("accuracy", item.format, task.task, metric, value, std::nullopt, ids);
      };
      plain("lost", static_cast<double>(item.lost));
      plain("gained", static_cast<double>(item.gained));
      lines.add("accuracy", item.format, task.task, "answer_changed", item.answer_changed, ids);
      plain("p", item.p);
      plain("p_holm", item.p_holm);
      plain("minimum_detectable", item.detectable);
      if (item.recovery.ratio)
        lines.add("accuracy", item.format, task.task, "recovery", *item.recovery.ratio, ids);
    }
  }
  for (const auto& item : analysis.averages) {
    lines.add("average", item.format, "all tasks", "difference", item.difference, "");
    if (item.recovery.ratio)
      lines.add("average", item.format, "all tasks", "recovery", *item.recovery.ratio, "");
    lines.add("average", item.format, "all tasks", "loss_bound", item.lossless.bound, std::nullopt,
              "");
    lines.add("average", item.format, "all tasks", "lossless_shown", item.lossless.shown ? 1 : 0,
              std::nullopt, "");
  }
  for (const auto& board : analysis.boards)
    for (const auto& row : board.rows) {
      for (size_t i = 0; i < row.columns.size(); ++i)
        lines.add(board.id, row.format, board.columns[i], "score", row.columns[i], "");
      lines.add(board.id, row.format, "average", "score", row.average, "");
      if (row.format == analysis.baseline) continue;
      lines.add(board.id, row.format, "average", "difference", row.difference, "");
      if (row.recovery.ratio)
        lines.add(board.id, row.format, "average", "recovery", *row.recovery.ratio, "");
    }
  for (const auto& cell : analysis.noise.cells)
    lines.add("repeat", analysis.baseline, cell.source.name, "differing_rows",
              static_cast<double>(cell.differing), std::nullopt, cell.source.id);
  for (const auto& item : analysis.divergences) {
    const auto add = [&](const char* metric, const analyse::Estimate& estimate) {
      lines.add("divergence", item.format, item.text, metric, estimate, item.source);
    };
    add("mean_kl", item.mean_kl);
    add("kl_p99", {item.kl_p99, std::nullopt});
    add("top1_agreement", item.top1_agreement);
    add("perplexity", {item.perplexity, std::nullopt});
    add("perplexity_base", {item.perplexity_base, std::nullopt});
    add("perplexity_ratio", item.perplexity_ratio);
  }
  for (const auto& item : analysis.texts) {
    lines.add("text", item.format, "answers", "rouge1", item.rouge1, item.source);
    lines.add("text", item.format, "answers", "rouge2", item.rouge2, item.source);
    lines.add("text", item.format, "answers", "rougeL", item.rougeL, item.source);
    if (item.sts) lines.add("text", item.format, "answers", "sts", *item.sts, item.source);
    if (item.bertscore)
      lines.add("text", item.format, "answers", "bertscore", *item.bertscore, item.source);
  }
  for (const auto& item : analysis.scenarios) {
    const std::string name =
        item.scenario + (item.mode == analyse::Mode::sync ? "/sync" : "/async");
    const auto add = [&](const char* metric, double value,
                         const std::optional<analyse::Interval>& interval = std::nullopt) {
      lines.add("load", item.format, name, metric, value, interval, item.source);
    };
    add("latency_s", item.e2e.p50, item.e2e.p50_interval);
    add("ttft_s", item.ttft.p50, item.ttft.p50_interval);
    if (item.itl.count > 0) add("itl_s", item.itl.p50, item.itl.p50_interval);
    add("queries_per_second", item.queries_per_second);
    add("output_tokens_per_second", item.output_tokens_per_second);
    if (item.queries_per_dollar) add("queries_per_dollar", *item.queries_per_dollar);
  }
  for (const auto& item : analysis.costs)
    lines.add("cost", item.format, to_string(item.mode), "cost_reduction", item.cost_reduction, "");
  for (const auto& summary : analysis.formats) {
    if (!summary.quantized) continue;
    const auto& made = *summary.quantized;
    lines.add("quantize", summary.format, made.recipe, "checkpoint_bytes",
              static_cast<double>(made.checkpoint_bytes), std::nullopt, made.source.id);
    lines.add("quantize", summary.format, made.recipe, "bits_per_weight", made.bits_per_weight,
              std::nullopt, made.source.id);
    for (const auto& layer : made.layers)
      lines.add("layer", summary.format, layer.module, "relative_error", layer.relative_error,
                std::nullopt, made.source.id);
  }
  return lines.take();
}

std::string json(const Analysis& analysis) {
  return to_json(analysis).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void write_html(const Analysis& analysis, const std::filesystem::path& path) {
  write(analysis, "html", path);
}

void write(const Analysis& analysis, const std::string& format, const std::filesystem::path& path) {
  std::string text;
  if (format == "html")
    text = html(analysis);
  else if (format == "md")
    text = markdown(analysis);
  else if (format == "csv")
    text = csv(analysis);
  else if (format == "json")
    text = json(analysis);
  else
    throw Error::refused("no such form of a report", format, "take html, md, csv or json");
  write_text(path, text);
}

}  // namespace narrow::report
