#include "evaluate/math_answer.h"

#include "evaluate/filter.h"
#include "evaluate/math_compare.h"
#include "evaluate/math_extract.h"
#include "evaluate/math_normalize.h"
#include "evaluate/math_parser.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

constexpr const char* kInvalid = "[invalidanswer]";

bool same_formula(const std::string& answer, const std::string& gold) {
  try {
    return math::same_value(math::parse_sympy_latex(gold), math::parse_sympy_latex(answer));
  } catch (const math::Unparsable&) {
    return false;
  }
}

}  // namespace

bool math_verdict(const std::string& response, const std::string& gold_solution) {
  const math::Extracted gold =
      math::extract_answer(text::repair(gold_solution), /*plain_numbers=*/false);
  const math::Extracted answer =
      math::extract_answer(text::repair(response), /*plain_numbers=*/true);
  if (!gold.text.empty() && python::strip(gold.text) == python::strip(answer.text)) return true;
  return gold.expression && answer.expression &&
         math::equivalent(gold.expression, answer.expression);
}

bool math_verdict_minerva(const std::string& response, const std::string& gold_solution) {
  const std::string answer = math::normalize_minerva(math_final_answer(response));
  const std::string gold = math::normalize_minerva(math::boxed_answer(text::repair(gold_solution)));
  if (answer == kInvalid) return false;
  return python::strip(answer) == python::strip(gold) || same_formula(answer, gold);
}

bool math_verdict_0_4_5(const std::string& response, const std::string& gold_solution) {
  return same_formula(math::normalize_minerva(math_final_answer(response)),
                      math::normalize_minerva(math::boxed_answer(text::repair(gold_solution))));
}

std::string math_final_answer(const std::string& response) {
  static const Pattern final("Final Answer: The final answer is(.*?). I hope it is correct.");
  const std::string text = text::repair(response) + "I hope it is correct.";
  const auto found = final.matches(text);
  return found.empty() ? kInvalid : std::string(python::strip(*found[0].groups[0]));
}

}  // namespace narrow::evaluate
