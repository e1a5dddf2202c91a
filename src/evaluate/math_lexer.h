// Tokens of LaTeX formulas, cut as the grammar of latex2sympy2_extended 1.11 cuts them (PS.g4): the
// longest match counts, white space and spacing commands are dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace narrow::evaluate::math {

enum class TokenKind {
  number,        // 12, 1.5
  percentage,    // 12%
  scientific,    // 1.5E-3
  letter,        // any but e
  euler,         // e
  capital_e,     // E
  differential,  // dx, d\theta
  greek,         // \alpha, π
  accent,        // \text{…}, \vec{…}: text is what a symbol of it is called
  command,       // \frac, \sin, …: text without the backslash
  matrix_begin,  // \begin{pmatrix}: text is the environment
  matrix_end,
  word,      // floor, trace, …: words that the grammar keeps for \operatorname
  operator_  // + - * / ( ) [ ] { } \{ \} | ^ _ , ; : ! & \\ = < <= > >= != ~ and set operators
};

struct Token {
  TokenKind kind;
  std::string text;  // operators have one spelling each: "\\leq" and "≤" come as "<="
  size_t begin;      // in bytes of the formula
};

// Throws Unparsable (math_parser.h) for what no token begins with.
std::vector<Token> tokenize(std::string_view formula);

}  // namespace narrow::evaluate::math
