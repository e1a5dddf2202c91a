#include <fmt/format.h>

#include <iostream>
#include <sstream>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "cli/model_or_endpoint.h"
#include "cli/verbs.h"
#include "load/load.h"

namespace narrow::cli {
namespace {

namespace fs = std::filesystem;

// To a server under load: a thread each.
constexpr int64_t kMostConnections = 1024;

struct Arguments {
  std::string model, scenarios = "all", mode = "sync", output = "out/bench", text;
  EndpointFlags endpoint;
  double scale = 1;
  load::LoadPlan plan;
};

load::LoadPlan::Mode mode_of(const std::string& text) {
  for (const auto mode : {load::LoadPlan::Mode::sync, load::LoadPlan::Mode::async,
                          load::LoadPlan::Mode::constant, load::LoadPlan::Mode::poisson})
    if (text == load::name_of(mode)) return mode;
  throw Error::refused("unknown mode \"" + text + "\"", "--mode",
                       "there are: sync, async, constant, poisson");
}

std::vector<std::string> scenario_names(const std::string& list) {
  if (list == "all") return data_file_names("scenarios");
  std::vector<std::string> names;
  std::istringstream stream(list);
  for (std::string name; std::getline(stream, name, ',');) names.push_back(name);
  return names;
}

std::string shown(const Json& seconds) {
  return seconds.is_null() ? "–" : fmt::format("{:.1f}", seconds.get<double>() * 1000);
}

void run(const Arguments& arguments, const Globals& globals) {
  load::LoadPlan plan = arguments.plan;
  plan.mode = mode_of(arguments.mode);
  plan.seed = globals.seed;
  std::vector<load::Scenario> scenarios;
  for (const std::string& name : scenario_names(arguments.scenarios))
    scenarios.push_back(load::scaled(load::load_scenario(name), arguments.scale));
  const fs::path text_file = arguments.text.empty()
                                 ? data_folder("recipes/calibration") / "c4_sample.txt.gz"
                                 : fs::path(arguments.text);
  const std::string text = read_text_maybe_gz(text_file);
  EndpointFlags flags = arguments.endpoint;
  // Every request the plan wants in flight has a connection of its own: none waits on this side.
  const int64_t most = plan.mode == load::LoadPlan::Mode::sync ? 1
                       : plan.concurrency > 0                  ? plan.concurrency
                                                               : plan.requests;
  if (flags.used() && most > kMostConnections)
    throw Error::refused(fmt::format("{} requests at once at a server", most), "--endpoint",
                         fmt::format("at most {} (--concurrency, --requests)", kMostConnections));
  flags.concurrency = static_cast<int>(std::min(most, kMostConnections));
  flags.attempts = 1;  // a refused request is a result of a load, not to be hidden
  const auto opened = open_model_or_endpoint(arguments.model, flags, globals, {.token_ids = true});
  endpoint::Endpoint& engine = *opened;
  fs::create_directories(arguments.output);
  Json results = Json::array();
  std::string request_lines;
  {
    Progress progress("bench", static_cast<int64_t>(scenarios.size()), "scenarios");
    for (const load::Scenario& scenario : scenarios) {
      const auto rows = load::run_load(engine, scenario, plan, text);
      for (const Json& row : rows) request_lines += to_line(row) + "\n";
      Json summary = load::summarize(rows);
      summary["scenario"] = scenario.name;
      summary["prompt_tokens"] = scenario.prompt_tokens;
      summary["generated_tokens"] = scenario.generated_tokens;
      results.push_back(std::move(summary));
      progress.advance();
    }
  }
  const Json document{{"model", engine.info().model},     {"format", engine.info().format},
                      {"backend", engine.info().backend}, {"mode", arguments.mode},
                      {"scale", arguments.scale},         {"scenarios", results}};
  write_text(fs::path(arguments.output) / "requests.jsonl", request_lines);
  write_text(fs::path(arguments.output) / "bench.json", document.dump(1) + "\n");
  if (globals.json) {
    std::cout << document.dump(1) << "\n";
    return;
  }
  std::cout << fmt::format("{:<24} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "scenario",
                           "tokens", "TTFT ms", "ITL ms", "E2E ms", "req/s", "tok/s");
  for (const Json& r : results) {
    const auto rate = [&](const char* key) {
      return r[key].is_null() ? std::string("–") : fmt::format("{:.2f}", r[key].get<double>());
    };
    std::cout << fmt::format(
        "{:<24} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}\n", r["scenario"].get<std::string>(),
        fmt::format("{}/{}", r["prompt_tokens"].get<int64_t>(),
                    r["generated_tokens"].get<int64_t>()),
        shown(r["ttft_s"]["p50"]), shown(r["itl_s"]["p50"]), shown(r["e2e_s"]["p50"]),
        rate("requests_per_second"), rate("output_tokens_per_second"));
    if (r["failed"].get<int64_t>() > 0)
      std::cout << fmt::format("  {} of {} requests failed\n", r["failed"].get<int64_t>(),
                               r["requests"].get<int64_t>());
    if (r["cached_tokens"].get<int64_t>() > 0)
      std::cout << fmt::format(
          "  {} prompt tokens came from a prefix cache: TTFT is shorter than without\n",
          r["cached_tokens"].get<int64_t>());
  }
}

}  // namespace

void add_bench(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("bench", "measure the deployment scenarios");
  verb->footer(
      "Examples:\n  narrow bench MODEL --scenarios chat,rag --requests 10\n"
      "  narrow bench MODEL --mode async --requests 64 -o out/bench\n"
      "  narrow bench --endpoint http://HOST:8000 --model NAME --tokenizer DIR --mode async");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name");
  verb->add_option("--scenarios", arguments->scenarios, "names, parted by commas, or all")
      ->capture_default_str();
  verb->add_option("--mode", arguments->mode, "sync, async, constant or poisson")
      ->capture_default_str();
  verb->add_option("--requests", arguments->plan.requests, "requests of each scenario")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000000));
  verb->add_option("--concurrency", arguments->plan.concurrency,
                   "async: requests in flight; 0: all at once")
      ->check(CLI::Range(0, 1000000));
  verb->add_option("--rate", arguments->plan.rate, "constant, poisson: requests a second")
      ->check(CLI::Range(1e-6, 1e6));
  verb->add_option("--warmup", arguments->plan.warmup, "requests before, not counted")
      ->check(CLI::Range(0, 1000000));
  verb->add_option("--scale", arguments->scale, "factor on the scenarios' token counts")
      ->check(CLI::Range(0.001, 1.0));
  verb->add_option("--text", arguments->text, "text to cut prompts from; default: packaged C4");
  verb->add_option("-o,--output", arguments->output, "folder of bench.json and requests.jsonl")
      ->capture_default_str();
  add_endpoint_flags(*verb, arguments->endpoint, /*own_concurrency=*/true);
  add_globals(*verb, globals);
  add_kv_cache_flag(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
