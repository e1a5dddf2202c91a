// Rows of a data set as documents, and what some of lm-evaluation-harness's tasks do to their rows
// in Python (`process_docs`), and LightEval's, by name. Pure but for the files read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/python_random.h"

namespace narrow::evaluate {

// JSON lines (.jsonl, .jsonl.gz), a list of objects (.json; BIG-Bench Hard's "examples" too) or
// comma-separated values (.csv): with a line of names, or MMLU's six columns without. Throws
// Error::refused naming file and row.
std::vector<Json> read_documents(const std::filesystem::path& path);

// Preparations there are: "aime", "arc_letters", "evalplus", "gpqa", "gpqa_lighteval", "hellaswag",
// "math_level_5", "mbpp_test", "musr", "truthfulqa", "wikitext".
std::vector<std::string> preparation_names();

// Of Python's global generator before a preparation: the harness seeds it with 0, LightEval with
// 1234.
uint32_t preparation_seed(const std::string& name);

// The documents that the task's own code makes of the rows of one file, `where`. `random`: Python's
// global generator, which gpqa's shuffle of the choices advances from document to document.
// REQUIRES: `name` is one of the above.
std::vector<Json> prepare(const std::string& name, std::vector<Json> rows, const std::string& where,
                          PythonRandom& random);

}  // namespace narrow::evaluate
