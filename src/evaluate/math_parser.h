// LaTeX formulas → expressions, read as latex2sympy2_extended 1.11 reads them (the parser behind
// math-verify), its liberties included: "2\frac12" and "2 3" are sums, "1,234" is a number and
// "1,2" a set, "f(x)" a function and "x(x+1)" a product, capitals are small letters, a subscript of
// a number is dropped. Recursive descent with backtracking, bounded in length, depth and steps.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "evaluate/math_expression.h"

namespace narrow::evaluate::math {

// Not a formula, or one beyond the limits. The comparison then falls back to the text.
struct Unparsable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline constexpr size_t kFormulaBytes = 4000;

// Integrals, limits, sums, products and transformations of matrices are not read.
Expression parse_latex(std::string_view formula);

// The value that sympy's own parse_latex gives (math_sympy_parser.cc says how it differs).
Expression parse_sympy_latex(std::string_view formula);

// Arithmetic as Python writes it: numbers, + - * / ** and parentheses.
Expression parse_arithmetic(std::string_view formula);

}  // namespace narrow::evaluate::math
