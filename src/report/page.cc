#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "report/embedded.h"
#include "report/escape.h"
#include "report/numbers.h"
#include "report/plots.h"
#include "report/reader.h"
#include "report/report.h"
#include "report/tables.h"

namespace narrow::report {
namespace {

using analyse::Analysis;

constexpr int64_t kPlanLimit = 20000;  // bytes of the plan shown

// What a Content-Security-Policy calls the hash of an inline script.
std::string csp_hash(std::string_view script) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string hex = sha256_hex(script);
  std::string bits;
  uint32_t group = 0;
  int held = 0;
  for (const char digit : hex) {  // four bits a digit, six a character
    group = group << 4 | static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    held += 4;
    if (held >= 6) {
      held -= 6;
      bits += kDigits[(group >> held) & 63];
    }
  }
  bits += kDigits[(group << (6 - held)) & 63];  // 256 bits leave four
  return "sha256-" + bits + "=";
}

class Page {
 public:
  explicit Page(const Analysis& analysis)
      : analysis_(analysis), colours_(format_colours(analysis)) {}

  std::string make() {
    head();
    answers();
    warnings();
    section("formats", "All formats");
    table(overview_table(analysis_));
    accuracy();
    cost();
    similarity();
    quantization();
    reader();
    provenance();
    definitions();
    tail();
    return std::move(out_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }

  std::string colour_style(const std::string& format) const {
    const auto found = colours_.find(format);
    return fmt::format("--colour:var(--f{})", found == colours_.end() ? 0 : found->second);
  }

  void section(const char* id, const char* title) { put("<h2 id=\"{}\">{}</h2>\n", id, title); }

  void head() {
    const std::string title = analysis_.model.empty()
                                  ? "Which precision to serve"
                                  : "Which precision to serve " + analysis_.model + " in";
    put("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
        "style-src 'unsafe-inline'; script-src '{}' '{}' '{}'; img-src data:; base-uri 'none'; "
        "form-action 'none'\">\n",
        csp_hash(chart_min_js()), csp_hash(page_js()), csp_hash(reader_js()));
    put("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n"
        "<title>{} – narrow</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        escape(title), page_css());
    put("<header>\n<div class=\"mark\">narrow · a study of precision</div>\n<h1>{}</h1>\n",
        escape(title));
    std::string facts = "Study “" + escape(analysis_.study) + "”";
    if (!analysis_.hardware.empty()) facts += " on " + escape(analysis_.hardware);
    if (analysis_.price_per_hour)
      facts += " at $ " + significant(*analysis_.price_per_hour) + " per hour";
    put("<div class=\"facts\">{}; baseline {}; tolerated loss {} of average accuracy.</div>\n",
        facts, escape(analysis_.baseline), percent(analysis_.max_loss, 1));
    put("<nav aria-label=\"Sections\"><a href=\"#formats\">Formats</a>"
        "<a href=\"#accuracy\">Accuracy</a><a href=\"#cost\">Cost and speed</a>"
        "<a href=\"#similarity\">Closeness</a><a href=\"#quantization\">Quantization</a>"
        "<a href=\"#read\">Read the answers</a>"
        "<a href=\"#provenance\">Provenance</a><a href=\"#terms\">Terms</a></nav>\n"
        "</header>\n<main>\n");
  }

  void answers() {
    out_ += "<section class=\"answers\" aria-label=\"Recommendation\">\n";
    static const std::map<std::string, std::string> kKinds = {
        {"synchronous", "One request at a time (synchronous)"},
        {"asynchronous", "Many requests together (asynchronous)"},
        {"mixed", "Both, on one deployment (mixed)"}};
    for (const auto& item : analysis_.recommendations) {
      put("<article class=\"answer\" style=\"{}\">\n<div class=\"kind\">{}</div>\n",
          item.format ? colour_style(*item.format) : "", kKinds.at(item.traffic));
      put("<div class=\"format\">{}</div>\n<p>{}</p>\n",
          item.format ? escape(*item.format) : "Cannot tell", escape(item.headline));
      put("<span class=\"badge{}\">{}</span>\n", item.supported ? " shown" : "",
          item.supported ? "shown by the rows"
          : item.format  ? "provisional"
                         : "no answer yet");
      if (!item.reasons.empty()) {
        out_ += "<details><summary>Why</summary><ul>\n";
        for (const std::string& reason : item.reasons) put("<li>{}</li>\n", escape(reason));
        out_ += "</ul></details>\n";
      }
      out_ += "</article>\n";
    }
    out_ += "</section>\n";
  }

  void warnings() {
    if (analysis_.warnings.empty()) return;
    out_ += "<section class=\"warnings\"><strong>Before you rely on this</strong>\n<ul>\n";
    for (const std::string& warning : analysis_.warnings) put("<li>{}</li>\n", escape(warning));
    out_ += "</ul></section>\n";
  }

  void strip(const Strip& strip, const std::string& format) {
    constexpr double kWidth = 150, kEdge = 4;
    const auto x = [&](double value) {
      const double place = kWidth / 2 + value / strip.extent * (kWidth / 2 - kEdge);
      return fmt::format("{:.1f}", std::clamp(place, 0.0, kWidth));
    };
    const double band = 2 * strip.margin / strip.extent * (kWidth / 2 - kEdge);
    put("<svg class=\"strip\" viewBox=\"0 0 150 14\" aria-hidden=\"true\" style=\"{}\">"
        "<rect class=\"band\" x=\"{}\" y=\"1\" width=\"{:.1f}\" height=\"12\"/>"
        "<line class=\"zero\" x1=\"75\" x2=\"75\" y1=\"0\" y2=\"14\"/>"
        "<line class=\"span\" x1=\"{}\" x2=\"{}\" y1=\"7\" y2=\"7\"/>"
        "<circle class=\"dot\" cx=\"{}\" cy=\"7\" r=\"4\"/></svg>",
        colour_style(format), x(-strip.margin), std::min(band, kWidth), x(strip.low), x(strip.high),
        x(strip.value));
  }

  void table(const Table& table, bool heading = false) {
    if (heading) put("<h3 id=\"{}\">{}</h3>\n", escape(table.id), escape(table.title));
    if (!table.note.empty()) put("<p class=\"note\">{}</p>\n", escape(table.note));
    put("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>\n"
        "<thead><tr>",
        escape(table.title));
    for (const std::string& column : table.columns)
      put("<th scope=\"col\"{}>{}</th>", wordy(column) ? " class=\"word\"" : "", escape(column));
    out_ += "</tr></thead>\n<tbody>\n";
    for (const auto& row : table.rows) {
      out_ += "<tr>";
      std::string format;
      for (size_t i = 0; i < row.size(); ++i) {
        const Cell& cell = row[i];
        if (!cell.format.empty()) format = cell.format;
        std::string classes = !cell.format.empty() ? "name word" : "";
        if (cell.format.empty() && wordy(table.columns[i])) classes = "word";
        if (cell.strong) classes += classes.empty() ? "strong" : " strong";
        put("<td{}{}>", classes.empty() ? "" : fmt::format(" class=\"{}\"", classes),
            cell.source.empty() ? "" : fmt::format(" title=\"{}\"", escape(cell.source)));
        if (!cell.format.empty())
          put("<span class=\"swatch\" style=\"{}\"></span>", colour_style(cell.format));
        out_ += escape(cell.text);
        if (!cell.detail.empty()) put("<small>{}</small>", escape(cell.detail));
        if (cell.strip && cell.strip->extent > 0) strip(*cell.strip, format);
        out_ += "</td>";
      }
      out_ += "</tr>\n";
    }
    out_ += "</tbody></table></div>\n";
  }

  static bool wordy(const std::string& column) {
    static constexpr const char* kWords[] = {"format",   "verdict",     "text",
                                             "recipe",   "calibration", "processor",
                                             "hardware", "backend",     "lossless"};
    return std::find(std::begin(kWords), std::end(kWords), column) != std::end(kWords);
  }

  void plots(const std::vector<Plot>& list) {
    if (list.empty()) return;
    out_ += "<div class=\"plots\">\n";
    for (const Plot& plot : list) {
      put("<figure><figcaption>{}<small>{}</small></figcaption><div class=\"canvas\">"
          "<canvas data-plot=\"{}\" role=\"img\" aria-label=\"{}\"></canvas></div></figure>\n",
          escape(plot.title), escape(plot.note), plot.id, escape(plot.description));
      plots_[plot.id] = plot.data;
    }
    out_ += "</div>\n";
  }

  void accuracy() {
    section("accuracy", "Accuracy");
    const std::vector<Table> tables = task_tables(analysis_);
    if (tables.empty()) {
      out_ += "<p>No task was measured.</p>\n";
      return;
    }
    put("<p>Every format answers the same questions as {}, so differences are paired. The bar "
        "shows "
        "the difference with its 95 % interval, the grey band the margin of ± {:g} {} fixed "
        "before the run. “Cannot tell” is an answer: the sample is too small for another.</p>\n",
        escape(analysis_.baseline), analysis_.margin_points,
        analysis_.margin_points == 1 ? "point" : "points");
    noise();
    for (const Table& item : board_tables(analysis_)) table(item, /*heading=*/true);
    for (const Table& item : tables) table(item, /*heading=*/true);
  }

  // The A/A run, before any difference between formats.
  void noise() {
    const auto& noise = analysis_.noise;
    put("<p id=\"noise\" class=\"{}\"><strong>{}</strong> {}</p>\n",
        noise.failure.empty() ? "noise passed" : "noise",
        fmt::format("A/A run: {} of {} rows differ.", noise.differing, whole(noise.rows)),
        noise.failure.empty()
            ? "The baseline, asked a second time in another order and in other batches, answered "
              "every question with the same bytes: what differs below is the formats’ doing."
            : "Nothing is claimed about any format: " + escape(noise.failure) + ".");
    if (const auto item = noise_table(analysis_)) {
      put("<details><summary>{}</summary>\n", escape(item->title));
      table(*item);
      out_ += "</details>\n";
    }
  }

  void cost() {
    section("cost", "Cost and speed");
    if (analysis_.scenarios.empty()) {
      out_ += "<p>No load was measured.</p>\n";
      return;
    }
    if (!analysis_.pareto.empty()) {
      out_ += "<h3>Accuracy against cost</h3>\n";
      plots(pareto_plots(analysis_));
    }
    out_ += "<h3>Under load</h3>\n";
    plots(load_plots(analysis_));
    for (const Table& item : load_tables(analysis_)) {
      put("<details><summary>All figures. {}</summary>\n", escape(item.title));
      table(item);
      out_ += "</details>\n";
    }
  }

  void similarity() {
    section("similarity", "Closeness to the baseline");
    const auto divergence = divergence_table(analysis_);
    const auto texts = text_table(analysis_);
    if (!divergence && !texts) out_ += "<p>Not measured.</p>\n";
    if (divergence) table(*divergence, /*heading=*/true);
    if (texts) table(*texts, /*heading=*/true);
  }

  void quantization() {
    section("quantization", "Quantization");
    const auto details = quantization_table(analysis_);
    if (!details) {
      out_ += "<p>No format was quantized in this study.</p>\n";
      return;
    }
    table(*details);
    plots(layer_plots(analysis_));
  }

  void reader() {
    const Json pairs = reader_data(analysis_);
    int64_t all = 0, flips = 0, shown = 0, shown_flips = 0;
    for (const Json& group : pairs["groups"]) {
      all += group["pairs"].get<int64_t>();
      flips += group["lost"].get<int64_t>() + group["gained"].get<int64_t>();
      shown += group["shown"].get<int64_t>();
    }
    for (const Json& sample : pairs["samples"]) shown_flips += sample["flip"].get<int>() < 2;
    section("read", "Read the answers");
    if (shown == 0) {
      out_ += "<p>The rows hold no pairs of answers.</p>\n";
      return;
    }
    put("<p>What {} and a format answered to the same prompt. This page holds {} of {} pairs and "
        "{} "
        "of {} flips (right to wrong, wrong to right): of each format on each task the flips "
        "first, "
        "then the answers that moved most. The store has all.</p>\n",
        escape(analysis_.baseline), whole(shown), whole(all), whole(shown_flips), whole(flips));
    put("<noscript><p class=\"note\">Reading them needs JavaScript.</p></noscript>\n"
        "<section id=\"reader\" class=\"reader\" data-baseline=\"{}\" hidden>\n"
        "<div class=\"controls\">"
        "<label>format <select data-control=\"format\"></select></label>"
        "<label>task <select data-control=\"task\"></select></label>"
        "<label>flip <select data-control=\"flip\"><option value=\"\">any</option></select></label>"
        "<label>divergence <select data-control=\"divergence\"><option value=\"0\">any</option>"
        "<option value=\"0.1\">0.1 and more</option><option value=\"0.5\">0.5 and more</option>"
        "<option value=\"0.9\">0.9 and more</option></select></label>"
        "<label>search <input type=\"search\" data-control=\"search\"></label></div>\n"
        "<p class=\"count note\" role=\"status\"></p>\n"
        "<div class=\"panes\"><nav class=\"list\" aria-label=\"Pairs\"></nav>"
        "<article class=\"detail\"></article></div>\n</section>\n",
        escape(analysis_.baseline));
    put("<script type=\"application/json\" id=\"pairs\">{}</script>\n", script_json(pairs));
  }

  void provenance() {
    section("provenance", "Provenance");
    if (const auto environment = environment_table(analysis_)) table(*environment);
    if (analysis_.model_fact.is_object() && !analysis_.model_fact.empty()) {
      out_ += "<h3>Model</h3>\n<dl>\n";
      for (const auto& [key, value] : analysis_.model_fact.items())
        put("<dt>{}</dt><dd>{}</dd>\n", escape_cut(key, 80),
            escape_cut(value.is_string() ? value.get<std::string>() : to_line(value), 600));
      out_ += "</dl>\n";
    }
    out_ +=
        "<h3>Make it again</h3>\n<p class=\"note\">Rows are kept in the study's store; the same "
        "rows give this page byte for byte. Point at a number to see the cells behind it.</p>\n"
        "<pre>";
    for (const std::string& command : reproduction(analysis_)) put("{}\n", escape(command));
    out_ += "</pre>\n";
    if (!analysis_.plan.is_null())
      put("<details><summary>The plan</summary><pre>{}</pre></details>\n",
          escape_cut(analysis_.plan.dump(2, ' ', false, Json::error_handler_t::replace),
                     kPlanLimit));
  }

  void definitions() {
    section("terms", "Terms");
    put("<dl>\n"
        "<dt>difference</dt><dd>Accuracy of the format minus that of the baseline on the same "
        "questions. Interval: BCa bootstrap over pairs, {} resamples, seed {}; Tango’s score "
        "interval when fewer than 30 answers flip.</dd>\n"
        "<dt>lost, gained</dt><dd>Answers that became wrong, and right. Equal accuracy with many "
        "flips is not the same model.</dd>\n"
        "<dt>p (Holm)</dt><dd>Exact McNemar test, adjusted for all format and task pairs of the "
        "study. With five flips or fewer no result can reach 0.05: cannot decide.</dd>\n"
        "<dt>would detect</dt><dd>The smallest true difference that this sample finds with 80 % "
        "power.</dd>\n"
        "<dt>recovery</dt><dd>Accuracy relative to the baseline’s. Left out where the baseline is "
        "within three standard errors of guessing.</dd>\n"
        "<dt>loss below margin</dt><dd>The lower end of the interval lies above minus the margin. "
        "A "
        "test that finds nothing is never called “same”.</dd>\n"
        "<dt>lossless</dt><dd>Only said of a format that is shown to lose less than the margin "
        "which "
        "the plan fixed before the run, as a share of the baseline’s accuracy (one-sided at 2.5 "
        "%); "
        "“not shown” otherwise. It is no claim that single answers stay: see lost and "
        "gained.</dd>\n"
        "<dt>A/A run</dt><dd>The baseline against itself, asked a second time in another order and "
        "in other batches. If a single row differs, nothing is claimed.</dd>\n"
        "<dt>divergence of a pair</dt><dd>0 to 1. Of choices: the largest change of a choice’s "
        "probability among the choices. Of a generated answer: the share of it after the first "
        "difference.</dd>\n"
        "<dt>cost reduction</dt><dd>Mean over the scenarios of cost per query on the baseline over "
        "cost per query on the format. Synchronous cost is median latency times price; "
        "asynchronous, price over throughput.</dd>\n"
        "</dl>\n",
        analysis_.resamples, analysis_.seed);
  }

  void tail() {
    Json formats = Json::object();
    for (const auto& [format, colour] : colours_) formats[visible(format)] = {{"colour", colour}};
    Json plots = Json::object();
    for (const auto& [id, data] : plots_) plots[id] = data;
    put("</main>\n<footer>Made by narrow from the rows of the study alone. Plots: Chart.js 3.9.1 "
        "(MIT).<noscript> Plots need JavaScript; the tables have every "
        "figure.</noscript></footer>\n"
        "<script type=\"application/json\" id=\"data\">{}</script>\n",
        script_json({{"formats", formats}, {"plots", plots}}));
    // Exactly the hashed bytes between the tags.
    out_ += "<script>";
    out_ += chart_min_js();
    out_ += "</script>\n<script>";
    out_ += page_js();
    out_ += "</script>\n<script>";
    out_ += reader_js();
    out_ += "</script>\n</body>\n</html>\n";
  }

  const Analysis& analysis_;
  const std::map<std::string, int> colours_;
  std::map<std::string, Json> plots_;
  std::string out_;
};

}  // namespace

std::string html(const Analysis& analysis) { return Page(analysis).make(); }

}  // namespace narrow::report
