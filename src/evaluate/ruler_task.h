// RULER's tasks as tasks of an evaluation. Unlike others they are made for a tokenizer and a
// length, once the model is open: "ruler_4k_vt" is variable tracking in 4096 tokens, "ruler_4k" all
// thirteen.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/ruler.h"
#include "evaluate/suite.h"
#include "evaluate/task.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace narrow::evaluate {

// "ruler_4k", "ruler_8k", … "ruler_128k".
std::vector<std::string> ruler_lengths();

// Tokens of the samples of a task made here, one of ruler_lengths() or one with a task behind it;
// 0: the name is no such task's.
int64_t ruler_length(const std::string& name);

// The requests with each length replaced by its thirteen tasks, in RULER's order.
std::vector<TaskRequest> expand_ruler(std::vector<TaskRequest> requests);

// Two metrics, `ruler` and `ruler_lm_eval` (RulerVerdict). `options.length` is taken from the name.
// One of ruler_lengths() is a task whose subtasks are the thirteen. Throws Error::refused as
// make_ruler() does.
// REQUIRES: ruler_length(name) > 0.
Task make_ruler_task(const std::string& name, RulerOptions options, const TokenCounter& count);

// What a task is made for: samples such that prompt and answer have the length of the name.
struct RulerModel {
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate* chat_template;  // null: it has none
  bool chat;                                // prompts go through it
  int64_t context_tokens;                   // 0: not known
};

// data: of the data sets, RULER's in its folder "ruler". samples: none, as many as RULER has.
// Throws Error::refused also where the model's context is shorter, or it lacks the template.
Task make_ruler_task(const std::string& name, const std::filesystem::path& data,
                     std::optional<int64_t> samples, const RulerModel& model);

}  // namespace narrow::evaluate
