// What a study runs: formats × (tasks, similarity, loads), read from a suite (suites/*.yaml) or a
// user's PLAN.yaml of the same form. Plain values; every field is checked on reading, an unknown
// one refused by name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace narrow::study {

struct TaskPlan {
  std::string name;
  std::optional<int64_t> limit;       // documents (of each subtask); none: all
  std::optional<int64_t> shots;       // none: the task's own number
  std::optional<bool> chat_template;  // none: the plan's
  bool operator==(const TaskPlan&) const = default;
};

struct Plan {
  std::string name;                  // of the suite
  std::string model;                 // empty in a suite: the command line names it
  std::vector<std::string> formats;  // recipes by name; bf16 first, the baseline
  int64_t calibration_samples = 128;
  int64_t calibration_length = 2048;
  std::vector<TaskPlan> tasks;
  bool chat_template = false;  // tasks through the model's chat template, unless they say
  int64_t kl_windows = 0;      // 0: no divergence cells
  int64_t kl_length = 512;
  int64_t text_prompts = 0;  // 0: no text similarity cells
  int64_t text_max_tokens = 256;
  std::vector<std::string> scenarios;  // names; empty: no load cells
  double load_scale = 1;               // factor on the scenarios' token counts
  int64_t sync_requests = 0;           // 0: no synchronous cells
  int64_t async_requests = 0;          // all at once; 0: no asynchronous cells
  double margin_points = 1;            // tolerable loss per task, in points of accuracy
  double lossless_margin_percent = 1;  // of the baseline's accuracy: what "lossless" may lose

  Json to_json() const;
};

// `where` names the file. Throws Error::refused.
Plan parse_plan(const Json& document, const std::string& where);

// A suite by name, or a path to a YAML file. Throws Error::refused listing the suites there are.
Plan load_plan(const std::string& name_or_path);

}  // namespace narrow::study
