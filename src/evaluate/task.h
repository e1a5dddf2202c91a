// An evaluation task: data, prompt templates, few-shot rule, filters and metrics, read from
// tasks/*.yaml, one file each, no inheritance; or from a file of the harness that needs no Python
// (evaluate/harness_task.h). Prompts, answers and metrics equal those of the
// lm-evaluation-harness task of the same name and version: of 0.4.13, or of 0.4.5 where "@0.4.5"
// stands behind the name.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/answer_filter.h"
#include "evaluate/metric.h"
#include "text/chat_template.h"

namespace narrow::evaluate {

// A set of documents with one few-shot pool: a task has one, a group such as mmlu one per subject.
struct Subtask {
  std::string name;         // "mmlu_anatomy"
  std::string group;        // "mmlu_stem"; empty where the task has no groups
  Json variables;           // for the templates: {"subject": "anatomy"}, fields of the task file
  int64_t guess_among = 0;  // answers a guess is drawn from, for the normalized score; 0: too many
  std::vector<Json> test;   // documents, in order
  std::vector<Json> shots;  // pool of examples; empty when the data set has none here
  std::optional<int64_t> max_tokens;  // of its answers; none: the task's
};

// Whose rules build prompts from a task's templates and examples (evaluate/prompt.h).
enum class Harness { v0_4_13, v0_4_5 };

struct Task {
  enum class Kind {
    choice,        // one question, several answers: the likeliest is the answer
    context,       // several contexts, one continuation: the likeliest context is the answer
    continuation,  // one context, one continuation: how likely it is
    rolling,       // a text without a context, of any length: how likely it is
    generate,      // text, which the right answer or choice is compared with
  };

  std::string name;
  Json version;        // of the harness's task: a number, written as there ("1.0")
  Json group_version;  // of its scores over several subtasks
  Kind kind = Kind::choice;
  Harness harness = Harness::v0_4_13;
  std::string yaml_sha256, data_sha256;
  int64_t shots = 0;         // unless the caller says otherwise
  bool first_shots = false;  // the first of the pool for every document; otherwise drawn
  // One example more is drawn than asked for and the document itself, if among them, left out:
  // what the harness does for tasks that name neither a few-shot nor a test split.
  bool leave_out_document = false;
  std::string preprocess;  // one of preparation_names(), or empty
  std::optional<text::Template> description;
  std::optional<text::Template> question;  // contexts of kind `context` are its list
  std::optional<text::Template> answer;    // text of the right answer; of `rolling` the text
  // Of `rolling`: the text whose words and bytes are counted. None: the one that is scored.
  std::optional<text::Template> counted;
  std::optional<text::Template> choices;  // list of texts
  std::optional<text::Template> gold;     // index of the right one, or its text
  // What the answer begins with: the question ends in it, behind a chat template the model goes on
  // from it in its own turn.
  std::optional<text::Template> answer_prefix;
  std::string delimiter = " ";             // between question and answer, in plain text
  std::string example_delimiter = "\n\n";  // behind an example
  std::vector<std::string> stop;
  int64_t max_tokens = 256;
  // The right answer is a list in Python's writing, of which any counts; an example has the first.
  bool several_answers = false;
  int64_t samples = 1;     // responses to each question; a score is their mean
  double temperature = 0;  // above 0: sampled, each response with a seed of its own
  double top_p = 1;
  std::vector<Filter> filters;
  ExactMatch exact_match;
  std::vector<const MetricKind*> kinds;  // judges of generated answers
  // Of rows: "acc", "acc_norm", "acc_bytes", "mc2", "f1", "mcc"; of a continuation "acc" (greedy
  // decoding gives it) and "perplexity"; of `rolling` those of rolling.h; for generate
  // "exact_match,<filter>", those of corpus_metric.h ("bleu,<filter>") and those of the kinds.
  std::vector<std::string> metrics;
  // Metrics whose mean, rescaled between guessing and 1, is the normalized score; empty: none.
  std::vector<std::string> normalized;
  bool normalize_subtasks = false;  // each by itself, then their plain mean
  std::vector<Subtask> subtasks;
};

// The folder of the data sets: `given`, or where it is empty $NARROW_DATA_DIR, or data/eval in the
// source tree.
std::filesystem::path data_root(const std::filesystem::path& given);

// Names of the tasks there are.
std::vector<std::string> task_names();

// By name from tasks/ or a path; rows from data_root(data). A subtask or group of a task is a name
// too ("mmlu_anatomy", "mmlu_stem") and reads its own files only. "mmlu@0.4.5", "mmlu_stem@0.4.5":
// the same of that version of the harness, for task files with such a variant; the version stays
// behind the names of task and subtasks. Throws Error::refused naming the field, or the files
// looked for.
Task load_task(const std::string& name_or_path, const std::filesystem::path& data = {});

}  // namespace narrow::evaluate
