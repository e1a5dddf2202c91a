// How many task files of lm-evaluation-harness load, templates included: of those that need no
// Python, and what refuses the others.
//
//     build/harness_tasks DIR      (lm_eval/tasks of the unpacked wheel)
#include <fmt/format.h>

#include <iostream>
#include <map>

#include "base/error.h"
#include "evaluate/harness_task.h"
#include "text/chat_template.h"

int main(int argc, char** argv) {
  using namespace narrow;
  if (argc != 2) {
    std::cerr << "usage: harness_tasks DIR\n";
    return 2;
  }
  try {
    int64_t loaded = 0, python = 0;
    std::map<std::string, std::pair<int64_t, std::string>> refused;  // by what: files, the first
    for (const auto& [name, file] : evaluate::tasks_below(argv[1])) {
      try {
        const Json task = evaluate::translate_harness_task(file).yaml;
        for (const char* key :
             {"description", "question", "answer", "choices", "gold", "answer_prefix"})
          if (task.contains(key)) text::Template{task[key].get<std::string>()};
        ++loaded;
      } catch (const Error& error) {
        std::string what = error.what();  // without its place
        if (const size_t at = what.find(".yaml: "); at != std::string::npos) {
          what.erase(0, at + 7);
        } else if (const size_t field = what.find(": \""); field != std::string::npos) {
          what.erase(0, field + 2);
        }
        if (what.find("Python code") != std::string::npos) {
          ++python;
          continue;
        }
        auto& [files, first] = refused[what];
        if (files++ == 0) first = file.string();
      }
    }
    int64_t others = 0;
    for (const auto& [what, of] : refused) others += of.first;
    std::cout << fmt::format("{} files need Python; of the {} others {} load\n", python,
                             loaded + others, loaded);
    for (const auto& [what, of] : refused)
      std::cout << fmt::format("{:6} {}   {}\n", of.first, what, of.second);
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
