// Whether two answers are the same, as math-verify 0.9 compares them (verify with its defaults).
#pragma once

#include "evaluate/math_expression.h"

namespace narrow::evaluate::math {

// Not symmetric: of "x = 5" and "5" only the side that `gold` has counts, and a relation equals a
// set when the set is the answer's.
bool equivalent(const Expression& gold, const Expression& answer);

}  // namespace narrow::evaluate::math
