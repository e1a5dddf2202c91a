#include "evaluate/suite.h"

#include <algorithm>

#include "base/data_files.h"
#include "base/error.h"
#include "base/json.h"

namespace narrow::evaluate {

std::vector<TaskRequest> expand_suites(const std::vector<std::string>& names) {
  const auto suites = data_file_names("suites");
  std::vector<TaskRequest> requests;
  const auto add = [&](TaskRequest request) {
    const bool there = std::any_of(requests.begin(), requests.end(), [&](const TaskRequest& one) {
      return one.name == request.name;
    });
    if (!there) requests.push_back(std::move(request));
  };
  for (const std::string& given : names) {
    // A version of the harness behind the suite's name goes behind those of its tasks.
    const size_t at = given.find('@');
    const bool versioned =
        at != std::string::npos &&
        std::find(suites.begin(), suites.end(), given.substr(0, at)) != suites.end();
    const std::string name = versioned ? given.substr(0, at) : given,
                      version = versioned ? given.substr(at) : "";
    if (std::find(suites.begin(), suites.end(), name) == suites.end()) {
      add({name, "", std::nullopt, std::nullopt});
      continue;
    }
    const auto path = find_data_file("suites", name);
    const std::string where = path.string() + ", tasks";
    const Json yaml = read_yaml(path);
    const auto tasks = json_get<std::vector<Json>>(yaml, "tasks", path.string(), {});
    if (tasks.empty()) throw Error::refused("the suite has no tasks", path.string());
    for (const Json& task : tasks) {
      const auto number = [&](const char* key) {
        return task.contains(key) ? std::optional(json_get<int64_t>(task, key, where))
                                  : std::nullopt;
      };
      add({json_get<std::string>(task, "name", where) + version, given, number("shots"),
           number("limit")});
    }
  }
  return requests;
}

}  // namespace narrow::evaluate
