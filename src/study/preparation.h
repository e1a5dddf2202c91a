// What a study needs beside its store, looked for before anything is written: a plan that is
// refused leaves no folder that would hold the corrected one off.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/run.h"
#include "quantize/recipe.h"
#include "similarity/answers.h"
#include "study/study.h"

namespace narrow::study {

struct Preparation {
  Plan plan;
  Settings settings;  // the backend by its name, not "auto"
  std::filesystem::path model;
  std::string model_sha256;
  Json model_fact;                                     // as the store keeps it
  std::map<std::string, quantize::Recipe> recipes;     // by format
  std::vector<evaluate::Task> tasks;                   // of the plan's, in their order
  std::unique_ptr<similarity::AnswerEncoder> encoder;  // or none
  Json encoder_key;
  std::filesystem::path kl_text, prompts;  // where the plan measures similarity

  evaluate::RunOptions run_options(size_t task) const;
};

// Throws Error::refused for what the plan names and is not there, or what a study cannot compare.
Preparation prepare(const Plan& plan, const Settings& settings);

}  // namespace narrow::study
