// Answers made plain before they are compared: the rewritings of two graders, each in its order.
// Pure functions on valid UTF-8.
#pragma once

#include <string>

namespace narrow::evaluate::math {

// normalize_final_answer of Minerva (Lewkowycz et al. 2022, appendix D), as in the harness.
std::string normalize_minerva(const std::string& answer);

// normalize_latex of latex2sympy2_extended 1.11 with math-verify's settings. `last_box`: of several
// boxes only those belonging to the last one count, not all.
std::string normalize_latex(const std::string& formula, bool last_box);

// What is in the last \boxed{…} of a text; "[invalidanswer]" when there is none or it is not
// closed.
std::string boxed_answer(const std::string& text);

}  // namespace narrow::evaluate::math
