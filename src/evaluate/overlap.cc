#include "evaluate/overlap.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <vector>

#include "evaluate/prompt.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::string plain;
  for (const char c : text::repair(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::ispunct(byte)) continue;
    plain += byte < 0x80 ? static_cast<char>(std::tolower(byte)) : c;
  }
  return python::split(plain);
}

// visit(hash) for each run of words, until it returns false.
template <class Visit>
void for_each_run(const std::string& text, Visit visit) {
  const auto words = words_of(text);
  for (size_t i = 0; i + WordRuns::kWords <= words.size(); ++i) {
    std::string run;
    for (size_t j = 0; j < WordRuns::kWords; ++j) run += words[i + j] + " ";
    if (!visit(static_cast<uint64_t>(std::hash<std::string>{}(run)))) return;
  }
}

}  // namespace

void WordRuns::add(const std::string& text) {
  for_each_run(text, [&](uint64_t hash) {
    runs_.insert(hash);
    return true;
  });
}

bool WordRuns::shared_with(const std::string& text) const {
  bool shared = false;
  for_each_run(text, [&](uint64_t hash) {
    shared = runs_.contains(hash);
    return !shared;
  });
  return shared;
}

int64_t shared_documents(const Task& task, const WordRuns& runs) {
  PromptOptions options;
  options.shots = 0;
  int64_t count = 0;
  for (const Subtask& subtask : task.subtasks) {
    Prompter prompter(task, subtask, options, nullptr);
    for (size_t i = 0; i < subtask.test.size(); ++i) {
      const Prompt prompt = prompter.next();
      count += std::any_of(prompt.contexts.begin(), prompt.contexts.end(),
                           [&](const std::string& text) { return runs.shared_with(text); });
    }
  }
  return count;
}

}  // namespace narrow::evaluate
