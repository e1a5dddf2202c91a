#include <fmt/format.h>

#include "base/json.h"
#include "checkpoint/hub.h"
#include "cli/verbs.h"

namespace narrow::cli {

void add_pull(CLI::App& app, Globals& globals) {
  struct Options {
    std::string repository, directory;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("pull", "download a model from the Hugging Face hub");
  verb->add_option("REPO", options->repository, "org/name or org/name@revision")->required();
  verb->add_option("-o,--output", options->directory, "folder to create")->required();
  verb->footer(
      "Only weights, configuration and tokenizer are fetched. The download lands in the hub cache\n"
      "first, continues where it was interrupted and is checked against the hub's hashes.\n\n"
      "  narrow pull HuggingFaceTB/SmolLM2-135M-Instruct -o models/smollm2\n"
      "  HF_TOKEN=... narrow pull meta-llama/Llama-3.1-8B-Instruct@main -o models/llama");
  add_globals(*verb, globals);
  verb->callback([options, &globals] {
    checkpoint::pull(options->repository, options->directory);
    if (globals.json) {
      fmt::print("{}\n",
                 to_line({{"repository", options->repository}, {"directory", options->directory}}));
    } else {
      fmt::print("{}\n", options->directory);
    }
  });
}

}  // namespace narrow::cli
