// What `recommend` and `report` share: where a study's rows lie and the flags that turn them into a
// recommendation.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "analyse/analysis.h"

namespace narrow::cli {

struct StudyOptions {
  std::string directory, traffic, slo, hardware;
  std::string max_loss = "1%";
  std::optional<double> price, margin;
};

// Adds DIR, --traffic, --max-loss, --margin, --slo, --gpu and --price.
void add_study_options(CLI::App& verb, StudyOptions& options);

// Reads the rows of DIR and analyses them. Throws Error::refused when there is no study, and when
// --gpu names a machine that the rows were not measured on.
analyse::Analysis analyse_directory(const StudyOptions& options);

}  // namespace narrow::cli
