#include <iostream>
#include <memory>

#include "cli/study_options.h"
#include "cli/verbs.h"
#include "report/report.h"

namespace narrow::cli {

void add_recommend(CLI::App& app, Globals& globals) {
  auto* verb = app.add_subcommand("recommend", "the format to deploy, from the rows of a study");
  const auto options = std::make_shared<StudyOptions>();
  add_study_options(*verb, *options);
  add_globals(*verb, globals);
  verb->footer(
      "Examples:\n"
      "  narrow recommend out/demo\n"
      "  narrow recommend out/demo --max-loss 0.5% --slo ttft=200ms,itl=50ms\n"
      "  narrow recommend out/demo --traffic traffic.yaml --price 2.5 --json");
  verb->callback([options, &globals] {
    const analyse::Analysis analysis = analyse_directory(*options);
    std::cout << (globals.json ? report::json(analysis) : report::summary(analysis));
  });
}

}  // namespace narrow::cli
