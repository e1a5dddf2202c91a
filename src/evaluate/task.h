// An evaluation task: data, prompt templates, few-shot rule, filters and metrics, read from
// tasks/*.yaml. One file each, no inheritance. Prompts, answers and metrics equal those of the
// lm-evaluation-harness task of the same name and version.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/filter.h"
#include "text/chat_template.h"

namespace narrow::evaluate {

struct Filter {
  std::string name;  // "strict-match"
  Pattern pattern;
  int index = 0;  // 0: first match, -1: last
};

// A set of documents with one few-shot pool: a task has one, a group such as mmlu one per subject.
struct Subtask {
  std::string name;         // "mmlu_anatomy"
  std::string group;        // "mmlu_stem"; empty where the task has no groups
  Json variables;           // for the templates: {"subject": "anatomy"}
  std::vector<Json> test;   // documents, in order
  std::vector<Json> shots;  // pool of examples; empty when the data set has none here
};

struct Task {
  enum class Kind {
    choice,   // one question, several answers: the likeliest is the answer
    context,  // several contexts, one continuation: the likeliest context is the answer
    generate,
  };

  std::string name;
  int64_t version = 0;        // of the harness's task
  int64_t group_version = 0;  // of its scores over several subtasks
  Kind kind = Kind::choice;
  std::string yaml_sha256, data_sha256;
  int64_t shots = 0;         // unless the caller says otherwise
  bool first_shots = false;  // the first of the pool for every document; otherwise drawn
  // One example more is drawn than asked for and the document itself, if among them, left out:
  // what the harness does for tasks that name neither a few-shot nor a test split.
  bool leave_out_document = false;
  std::string preprocess;  // "" or "hellaswag"
  std::optional<text::Template> description;
  std::optional<text::Template> question;  // contexts of kind `context` are its list
  std::optional<text::Template> answer;    // text of the right answer
  std::optional<text::Template> choices;   // list of texts
  std::optional<text::Template> gold;      // index of the right one
  std::vector<std::string> stop;
  int64_t max_tokens = 256;
  std::vector<Filter> filters;
  ExactMatch exact_match;
  std::vector<std::string> metrics;  // "acc", "acc_norm"; "exact_match,<filter>" for generate
  std::vector<Subtask> subtasks;
};

// Names of the tasks there are.
std::vector<std::string> task_names();

// By name from tasks/ or a path; rows from `data` (folder of data sets; empty: $NARROW_DATA_DIR or
// data/eval in the source tree). A subtask or group of a task is a name too ("mmlu_anatomy",
// "mmlu_stem") and reads its own files only. Throws Error::refused naming the field, or the files
// looked for.
Task load_task(const std::string& name_or_path, const std::filesystem::path& data = {});

}  // namespace narrow::evaluate
