// An answer to a mathematical problem, as arbitrary text: judged, whatever it is.
#include "evaluate/math_answer.h"

#include <string>

#include "evaluate/math_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow::evaluate;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto parse : {math::parse_latex, math::parse_sympy_latex, math::parse_arithmetic}) {
    try {
      const math::Expression value = parse(text);
      math::same_value(value, value);
    } catch (const math::Unparsable&) {
    }
  }
  // Delimiters without end make the search quadratic: a long text would exceed the time of a run.
  const std::string answer = text.substr(0, 500);
  math_verdict("Final Answer: The final answer is $" + answer + "$. I hope it is correct.",
               "so it is $\\boxed{" + answer + "}$");
  math_verdict_minerva("Final Answer: The final answer is " + answer, "$\\boxed{5}$");
  return 0;
}
