// Suites: several tasks with their numbers of examples under one name (suites/*.yaml, whose other
// fields are a study's).
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace narrow::evaluate {

struct TaskRequest {
  std::string name;
  std::string suite;             // that named it; empty: the user did
  std::optional<int64_t> shots;  // none: the task's own number
  std::optional<int64_t> limit;
};

// The tasks of the suites among `names`, in their place; other names as they are. "SUITE@0.4.5":
// its tasks, each with that version behind its name. A task named
// twice stays once, where it stands first. Throws Error::refused for a suite without tasks.
std::vector<TaskRequest> expand_suites(const std::vector<std::string>& names);

}  // namespace narrow::evaluate
