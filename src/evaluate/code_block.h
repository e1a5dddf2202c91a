// The program in a chat model's answer.
#pragma once

#include <string>

namespace narrow::evaluate {

// The first ```fenced``` block, as lm-evaluation-harness 0.4.13 takes it for MBPP: the prompt has
// opened a block already, so `response` may begin inside one. "" when none is closed.
// Throws Error::failed when the response exceeds the limits of a regular expression.
std::string first_code_block(const std::string& response);

}  // namespace narrow::evaluate
