// Task files of lm-evaluation-harness 0.4.13 that need no Python, as files of our own form. What
// such a file may hold and what is refused is in docs/evaluation.md.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/json.h"

namespace narrow::evaluate {

// How the harness reads its files: of a key that stands twice in a mapping the last one counts.
inline constexpr JsonLimits kHarnessYaml{.duplicate_keys = true};

// Whether a parsed file is one of the harness's: it has "task", ours have "name".
bool is_harness_task(const Json& yaml);

struct TranslatedTask {
  Json yaml;           // in our form
  std::string source;  // text of the file and of those it includes
};

// Throws Error::refused naming file and line for `!function`, a class, an output type, metric,
// filter or field that is not carried over.
TranslatedTask translate_harness_task(const std::filesystem::path& file);

// Task files below a folder, ours and the harness's, by the name in them.
std::multimap<std::string, std::filesystem::path> tasks_below(const std::filesystem::path& folder);

}  // namespace narrow::evaluate
