// The code benchmarks as kinds of metrics (metric.h): one CodeJudge for the process, started when
// it is first asked for. Threads may share it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "evaluate/metric.h"

namespace narrow::evaluate {

// The jail and its interpreter. Throws Error::refused where there is no jail.
std::string code_environment();

// pass@1 of all samples of a document.
std::vector<Judged> judge_humaneval(const Json& document, std::span<const std::string> responses,
                                    Json& notes);
std::vector<Judged> judge_mbpp(const Json& document, std::span<const std::string> responses,
                               Json& notes);

// pass@1 of the data set's own tests and of all; `replies` has pass@10 of each too and throws
// Error::refused for fewer than ten samples. A reply is a chat model's, behind the opening of a
// code block; a completion goes on from the prompt.
std::vector<Judged> judge_evalplus_reply(const Json& document,
                                         std::span<const std::string> responses, Json& notes);
std::vector<Judged> judge_evalplus_replies(const Json& document,
                                           std::span<const std::string> responses, Json& notes);
std::vector<Judged> judge_evalplus_completion(const Json& document,
                                              std::span<const std::string> responses, Json& notes);

}  // namespace narrow::evaluate
