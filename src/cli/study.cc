#include "study/study.h"

#include <iostream>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "cli/verbs.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, suite = "smoke", output, formats, data, encoder, hardware = "cpu";
  double price = -1;
  int jobs = 1;
};

void run(const Arguments& arguments, const Globals& globals) {
  const bool is_plan = arguments.model.ends_with(".yaml");
  study::Plan plan = study::load_plan(is_plan ? arguments.model : arguments.suite);
  if (!is_plan) plan.model = arguments.model;
  if (plan.model.empty()) throw Error::refused("the plan names no \"model\"", arguments.model);
  if (!arguments.formats.empty()) {
    plan.formats.clear();
    std::istringstream list(arguments.formats);
    for (std::string format; std::getline(list, format, ',');) plan.formats.push_back(format);
    if (plan.formats.empty() || plan.formats.front() != "bf16")
      throw Error::refused("--formats must begin with bf16, the baseline");
  }
  study::Settings settings;
  settings.backend = globals.backend;
  settings.threads = globals.threads;
  settings.kv_dtype = globals.kv_dtype();
  settings.jobs = arguments.jobs;
  settings.seed = globals.seed;
  settings.hardware = arguments.hardware;
  if (arguments.price >= 0) settings.price_per_hour = arguments.price;
  settings.data = arguments.data;
  settings.encoder = arguments.encoder;
  settings.version = NARROW_VERSION;
  study::run(plan, settings, arguments.output);
  if (globals.json) {
    std::cout << Json{{"study", arguments.output}, {"plan", plan.to_json()}}.dump(1) << "\n";
  } else {
    log::info("study: {} (narrow recommend, narrow report)", arguments.output);
  }
}

}  // namespace

void add_study(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("study", "quantize, evaluate, compare and load every format");
  verb->footer(
      "Examples:\n  narrow study MODEL --suite smoke -o out/study\n"
      "  narrow study plan.yaml -o out/study\n"
      "Run it again to continue; finished rows are kept.");
  verb->add_option("model", arguments->model, "a model, or a PLAN.yaml that names one")->required();
  verb->add_option("--suite", arguments->suite, "what to run: a name from suites/")
      ->capture_default_str();
  verb->add_option("-o,--output", arguments->output, "folder of the study")->required();
  verb->add_option("--formats", arguments->formats, "recipes, parted by commas; bf16 first");
  verb->add_option("--data", arguments->data, "folder of the data sets; default data/eval");
  verb->add_option("--encoder", arguments->encoder,
                   "a BERT or RoBERTa model: also STS and BERTScore of the answers");
  verb->add_option("--hardware", arguments->hardware, "accelerator whose price counts")
      ->capture_default_str();
  verb->add_option("--price", arguments->price, "USD per hour, instead of the hardware's")
      ->check(CLI::Range(0.0, 1e6));
  verb->add_option("--jobs", arguments->jobs,
                   "formats quantized at once while a GPU evaluates others; each needs memory")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add_globals(*verb, globals);
  add_kv_cache_flag(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
