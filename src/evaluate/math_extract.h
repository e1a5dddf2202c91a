// Where an answer is in a text: math-verify 0.9's search, by patterns of falling priority ("final
// answer is", boxes, "answer", any formula), in each group from the right end of the text.
#pragma once

#include <string>
#include <vector>

#include "evaluate/math_expression.h"

namespace narrow::evaluate::math {

struct Extracted {
  Expression expression;  // null when none of the places found could be read
  std::string text;       // the first place tried, normalized; "" when there is none
};

// `plain_numbers`: numbers and arithmetic outside of formulas count, too.
Extracted extract_answer(const std::string& text, bool plain_numbers);

}  // namespace narrow::evaluate::math
