// Verdicts on answers to the problems of MATH (Hendrycks et al. 2021), as lm-evaluation-harness
// 0.4.13 gives them in leaderboard_math_hard. Formulas are compared by value over a small symbolic
// core of our own (evaluate/math_expression.h); docs/evaluation.md says where that differs from
// sympy. Pure, bounded in time; may be called from several threads.
#pragma once

#include <string>

namespace narrow::evaluate {

// exact_match: math-verify's search in the response, its parser and its comparison.
// `gold_solution` is the worked solution, with its answer in \boxed{…}.
bool math_verdict(const std::string& response, const std::string& gold_solution);

// exact_match_original: Minerva's. The answer is what stands in "Final Answer: The final answer is
// … I hope it is correct.", normalized, and then equal as text or by value.
bool math_verdict_minerva(const std::string& response, const std::string& gold_solution);

// exact_match of the harness's 0.4.5: that answer, but equal by value alone. What sympy cannot read
// as a formula ("[2,5)", "(1,2)") counts as wrong even when the texts are the same.
bool math_verdict_0_4_5(const std::string& response, const std::string& gold_solution);

// That answer before it is normalized; "[invalidanswer]" when there is none.
std::string math_final_answer(const std::string& response);

}  // namespace narrow::evaluate
