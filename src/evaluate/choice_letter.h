// The letter that a free response to a question with lettered choices answers with, as LightEval
// 0.13 finds it in English (its IndicesExtractionConfig of native letters, without anchors too).
// Pure, from any thread.
#pragma once

#include <optional>
#include <string>

namespace narrow::evaluate {

// Of the choices A … D: the last match of the first pattern that has one, from "final answer is X.
// I hope" over "answer: X" to an X anywhere; none where no letter occurs. What stands between
// <think> and </think> is left out. response: valid UTF-8.
std::optional<char> choice_letter(const std::string& response);

}  // namespace narrow::evaluate
