#include "report/plots.h"

#include <algorithm>
#include <set>

#include "report/escape.h"
#include "report/numbers.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using analyse::Mode;

constexpr int kColours = 8;

Json scaled(const std::optional<analyse::Interval>& interval, double scale) {
  if (!interval) return nullptr;
  return Json::array({scale * interval->low, scale * interval->high});
}

Plot pareto_plot(const Analysis& analysis, Mode mode) {
  Plot plot;
  plot.id = mode == Mode::sync ? "pareto-sync" : "pareto-async";
  plot.title = mode == Mode::sync ? "Synchronous" : "Asynchronous";
  plot.note = "Up and to the left is better. Dashed: the formats no other beats in both.";
  plot.data = {{"kind", "pareto"}, {"points", Json::array()}};
  for (const auto& point : analysis.pareto) {
    if (point.mode != mode) continue;
    Json entry{{"format", visible(point.format)},
               {"x", point.relative_cost},
               {"y", 100 * point.accuracy},
               {"front", point.on_front}};
    if (point.cost_interval) entry["xs"] = scaled(point.cost_interval, 1);
    if (point.accuracy_interval) entry["ys"] = scaled(point.accuracy_interval, 100);
    plot.data["points"].push_back(std::move(entry));
    plot.description += (plot.description.empty() ? "" : "; ") + point.format + ": cost " +
                        significant(point.relative_cost) + ", accuracy " +
                        percent(point.accuracy, 1);
  }
  return plot;
}

// One bar group per scenario, one bar per format. `value` answers none for a scenario that a
// format lacks.
template <class Value>
Plot bar_plot(const Analysis& analysis, Mode mode, const std::string& id, const std::string& title,
              const std::string& note, const std::string& unit, const Value& value) {
  Plot plot{id,
            title,
            note,
            title + ", " + unit +
                " by scenario and format; the table below has "
                "the figures.",
            {{"kind", "bars"}, {"unit", unit}}};
  std::vector<std::string> scenarios;
  for (const auto& item : analysis.scenarios)
    if (item.mode == mode &&
        std::find(scenarios.begin(), scenarios.end(), item.scenario) == scenarios.end())
      scenarios.push_back(item.scenario);
  plot.data["scenarios"] = Json::array();
  for (const std::string& scenario : scenarios) plot.data["scenarios"].push_back(visible(scenario));
  plot.data["series"] = Json::array();
  for (const auto& summary : analysis.formats) {
    Json values = Json::array();
    for (const std::string& scenario : scenarios) {
      Json entry;
      for (const auto& item : analysis.scenarios)
        if (item.mode == mode && item.scenario == scenario && item.format == summary.format)
          entry = value(item);
      values.push_back(std::move(entry));
    }
    plot.data["series"].push_back({{"format", visible(summary.format)}, {"values", values}});
  }
  return plot;
}

}  // namespace

std::map<std::string, int> format_colours(const Analysis& analysis) {
  static const std::map<std::string, int> kKnown = {
      {"bf16", 0}, {"w8a8-fp", 1}, {"w8a8-int", 2}, {"w4a16-int", 3}, {"w4a16-awq", 4}};
  std::map<std::string, int> colours;
  int next = static_cast<int>(kKnown.size());
  for (const auto& summary : analysis.formats) {
    const auto known = kKnown.find(summary.format);
    colours[summary.format] = known != kKnown.end() ? known->second : next++ % kColours;
  }
  return colours;
}

std::vector<Plot> pareto_plots(const Analysis& analysis) {
  std::vector<Plot> plots;
  for (const Mode mode : {Mode::sync, Mode::async})
    if (std::any_of(analysis.pareto.begin(), analysis.pareto.end(),
                    [&](const auto& point) { return point.mode == mode; }))
      plots.push_back(pareto_plot(analysis, mode));
  return plots;
}

std::vector<Plot> load_plots(const Analysis& analysis) {
  std::vector<Plot> plots;
  const auto measured = [&](Mode mode) {
    return std::any_of(analysis.scenarios.begin(), analysis.scenarios.end(),
                       [&](const auto& item) { return item.mode == mode; });
  };
  if (measured(Mode::sync)) {
    plots.push_back(bar_plot(analysis, Mode::sync, "latency-sync", "Synchronous latency",
                             "Median of one request alone. Lower is better.", "seconds",
                             [](const auto& item) { return item.e2e.p50; }));
    plots.push_back(bar_plot(analysis, Mode::sync, "ttft-sync", "Synchronous time to first token",
                             "Median of one request alone. Lower is better.", "seconds",
                             [](const auto& item) { return item.ttft.p50; }));
  }
  if (measured(Mode::async)) {
    plots.push_back(bar_plot(analysis, Mode::async, "throughput-async", "Asynchronous throughput",
                             "Finished queries per second, served together. Higher is better.",
                             "queries per second",
                             [](const auto& item) { return item.queries_per_second; }));
    plots.push_back(bar_plot(analysis, Mode::async, "latency-async", "Asynchronous latency",
                             "Median under that load, waiting included. Lower is better.",
                             "seconds", [](const auto& item) { return item.e2e.p50; }));
  }
  return plots;
}

std::vector<Plot> layer_plots(const Analysis& analysis) {
  Plot weights{"layers-weights",
               "Weight error of each layer",
               "|W − Q| / |W|.",
               "Relative error of each layer's weights by format; the table above names median and "
               "worst.",
               {{"kind", "layers"}, {"series", Json::array()}}};
  Plot outputs = weights;
  outputs.id = "layers-outputs";
  outputs.title = "Output error of each layer";
  outputs.note = "On calibration inputs; recipes without calibration have none.";
  for (const auto& summary : analysis.formats) {
    if (!summary.quantized) continue;
    Json weight_errors = Json::array(), output_errors = Json::array(), modules = Json::array();
    bool some_weights = false, some_outputs = false;
    for (const auto& layer : summary.quantized->layers) {
      modules.push_back(visible(layer.module));
      weight_errors.push_back(layer.relative_error);
      output_errors.push_back(layer.output_error.value_or(0));
      some_weights |= layer.relative_error > 0;
      some_outputs |= layer.output_error.value_or(0) > 0;
    }
    const std::string format = visible(summary.format);
    if (some_weights)
      weights.data["series"].push_back(
          {{"format", format}, {"values", weight_errors}, {"modules", modules}});
    if (some_outputs)
      outputs.data["series"].push_back(
          {{"format", format}, {"values", output_errors}, {"modules", modules}});
  }
  std::vector<Plot> plots;
  for (const Plot& plot : {weights, outputs})
    if (!plot.data["series"].empty()) plots.push_back(plot);
  return plots;
}

}  // namespace narrow::report
