#include "cli/study_options.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "load/hardware.h"
#include "store/store.h"

namespace narrow::cli {
namespace {

// The leading number of `text`; `rest` is what follows it.
double leading_number(const std::string& text, const std::string& where, std::string& rest) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0)
    throw Error::refused("expected a number, not \"" + text + "\"", where);
  rest = text.substr(static_cast<size_t>(end - text.data()));
  return value;
}

double parse_percent(const std::string& text) {
  std::string rest;
  const double value = leading_number(text, "--max-loss", rest);
  if (rest != "%" && rest != " %")
    throw Error::refused("expected percent of the average accuracy", "--max-loss",
                         "write it as 1% or 0.5%");
  return value / 100;
}

// "ttft=200ms,itl=50ms,e2e=2s".
analyse::Slo parse_slo(const std::string& text) {
  analyse::Slo slo;
  for (size_t begin = 0; begin < text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, comma - begin);
    begin = comma + 1;
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    std::optional<double>* limit = name == "ttft"  ? &slo.ttft_s
                                   : name == "itl" ? &slo.itl_s
                                   : name == "e2e" ? &slo.e2e_s
                                                   : nullptr;
    if (limit == nullptr || equals == std::string::npos)
      throw Error::refused("unknown limit \"" + part + "\"", "--slo",
                           "write for example ttft=200ms,itl=50ms,e2e=2s");
    std::string unit;
    const double value = leading_number(part.substr(equals + 1), "--slo", unit);
    if (unit != "ms" && unit != "s")
      throw Error::refused("\"" + part + "\" has no unit", "--slo", "write ms or s behind it");
    *limit = unit == "ms" ? value / 1000 : value;
  }
  return slo;
}

analyse::Traffic parse_traffic(const std::string& path) {
  const Json document = read_yaml(path);
  if (!document.is_object()) throw Error::refused("the traffic is not a mapping", path);
  for (const auto& [key, value] : document.items())
    if (key != "sync" && key != "async" && key != "scenarios")
      throw Error::refused("unknown field \"" + key + "\"", path,
                           "a traffic file has sync, async and scenarios");
  analyse::Traffic traffic;
  traffic.sync_share = json_get<double>(document, "sync", path, 1.0);
  traffic.async_share = json_get<double>(document, "async", path, 1.0);
  const Json scenarios = json_get<Json>(document, "scenarios", path, Json::object());
  if (!scenarios.is_object()) throw Error::refused("\"scenarios\" is not a mapping", path);
  for (const auto& [name, weight] : scenarios.items())
    traffic.scenarios[name] = json_get<double>(scenarios, name.c_str(), path);
  return traffic;
}

}  // namespace

void add_study_options(CLI::App& verb, StudyOptions& options) {
  verb.add_option("DIR", options.directory, "folder of a study")->required();
  verb.add_option("--traffic", options.traffic,
                  "YAML file: shares `sync` and `async`, weights of `scenarios`");
  verb.add_option("--max-loss", options.max_loss, "tolerable loss of average accuracy, relative")
      ->capture_default_str();
  verb.add_option(
      "--margin", options.margin,
      "points of accuracy per task that a claim of no loss allows; default: the plan's");
  verb.add_option("--slo", options.slo, "limits a format must keep: ttft=200ms,itl=50ms,e2e=2s");
  verb.add_option("--gpu", options.hardware, "take the price of this machine (hardware/NAME.yaml)");
  verb.add_option("--price", options.price, "USD per hour of the machine");
}

analyse::Analysis analyse_directory(const StudyOptions& arguments) {
  analyse::Options options;
  options.max_loss = parse_percent(arguments.max_loss);
  options.margin_points = arguments.margin;
  options.slo = parse_slo(arguments.slo);
  if (!arguments.traffic.empty()) options.traffic = parse_traffic(arguments.traffic);

  const std::filesystem::path file = std::filesystem::path(arguments.directory) / "study.db";
  if (!std::filesystem::exists(file))
    throw Error::refused("there is no study", file.string(), "make one with narrow study");
  const analyse::StudyRows rows = analyse::load_study(store::Store(file));

  if (!arguments.hardware.empty()) {
    const load::Hardware hardware = load::load_hardware(arguments.hardware);
    for (const auto& environment : rows.environments)
      if (!environment.hardware.empty() && environment.hardware != hardware.name)
        throw Error::refused("the rows were measured on " + environment.hardware +
                                 " and say nothing about " + hardware.name,
                             file.string(), "run narrow study on that machine");
    options.hardware = hardware.name;
    options.price_per_hour = hardware.price_per_hour;
  }
  if (arguments.price) options.price_per_hour = arguments.price;
  return analyse::analyse(rows, options);
}

}  // namespace narrow::cli
