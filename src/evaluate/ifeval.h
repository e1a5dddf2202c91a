// Whether a response follows the instructions of an IFEval prompt (Zhou et al. 2023), decided as
// lm-evaluation-harness 0.4.13 decides it (leaderboard_ifeval): the 25 checkers of the data set,
// strict on the response as it is, loose when any of eight trimmed variants passes. Pure; may be
// called from several threads.
//
// Two answers of the harness are random, here they are not: the language of a text
// (evaluate/language.h), and keywords:letter_frequency for a letter outside a to z, where the
// harness counts a letter that it draws; here the letter that is asked for is counted.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace narrow::evaluate {

struct IfevalVerdict {
  bool prompt_strict, prompt_loose;                         // every instruction is followed
  std::vector<bool> instruction_strict, instruction_loose;  // in the order of the document
};

// `document` is a row of the data set: instruction_id_list (names) and kwargs (one object for each
// instruction). Throws Error::refused for an instruction that is not one of the 25, a missing or
// mistyped argument, a keyword that is no regular expression; Error::failed when a regular
// expression exceeds its limits on the response.
IfevalVerdict judge_ifeval(const Json& document, const std::string& response);

}  // namespace narrow::evaluate
