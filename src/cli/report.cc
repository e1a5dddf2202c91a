#include "report/report.h"

#include <iostream>
#include <memory>

#include "base/log.h"
#include "cli/study_options.h"
#include "cli/verbs.h"

namespace narrow::cli {
namespace {

struct Arguments {
  StudyOptions study;
  std::string output, format;
};

// Without --format the name of the file decides.
std::string form_of(const Arguments& arguments) {
  if (!arguments.format.empty()) return arguments.format;
  const std::string extension = std::filesystem::path(arguments.output).extension();
  return extension == ".md" || extension == ".csv" || extension == ".json" ? extension.substr(1)
                                                                           : "html";
}

}  // namespace

void add_report(CLI::App& app, Globals& globals) {
  auto* verb = app.add_subcommand("report", "a study as one self-contained page");
  const auto arguments = std::make_shared<Arguments>();
  add_study_options(*verb, arguments->study);
  verb->add_option("-o,--output", arguments->output, "the file to write")->required();
  verb->add_option("--format", arguments->format,
                   "html, md, csv or json; default: by the file's name")
      ->check(CLI::IsMember({"html", "md", "csv", "json"}));
  add_globals(*verb, globals);
  verb->footer(
      "Examples:\n"
      "  narrow report out/demo -o report.html\n"
      "  narrow report out/demo -o rows.csv --format csv");
  verb->callback([arguments, &globals] {
    const analyse::Analysis analysis = analyse_directory(arguments->study);
    report::write(analysis, form_of(*arguments), arguments->output);
    if (globals.json)
      std::cout << to_line({{"report", arguments->output}, {"format", form_of(*arguments)}})
                << "\n";
    else
      log::info("wrote {}", arguments->output);
  });
}

}  // namespace narrow::cli
