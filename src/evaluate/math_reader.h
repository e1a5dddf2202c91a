// The arithmetic of math-verify's grammar: sums, products, powers, functions, matrices. For
// math_parser.cc, which reads sets, tuples and relations on top of it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/math_expression.h"
#include "evaluate/math_lexer.h"
#include "evaluate/math_parser.h"

namespace narrow::evaluate::math {

// A place in the tokens of one formula, and what begins there. What cannot be read is Unparsable;
// the place is then anywhere, and the caller who goes on sets it back.
class Reader {
 public:
  Reader(std::string_view formula, bool real);

 protected:
  struct Deeper {
    explicit Deeper(int& depth) : depth(depth) {
      if (++depth > kDepthLimit) {
        --depth;
        throw Unparsable("nested too deeply");
      }
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  const Token* peek(size_t ahead = 0);
  bool is_operator(std::string_view text, size_t ahead = 0);
  bool is_command(std::string_view text);
  bool take(std::string_view text);
  void expect(std::string_view text);
  // The place after the bracket that closes the one here, or 0 when none does.
  size_t after_brackets() const { return closing_[at_]; }
  // The source between two tokens, without blanks.
  std::string source(size_t first, size_t last) const;

  Expression expression();
  Expression product(bool functions);
  Expression signed_factors(bool functions);
  // Factors side by side. An integer before a positive fraction makes a mixed number.
  Expression factors(bool functions);
  bool starts_factor(bool functions);
  Expression postfix();
  static Expression transposed(const Node& matrix);
  Expression powers();
  // What may follow ^ or _: one atom or a group in braces.
  Expression script();
  void skip_subscript();
  std::string subscript();
  Expression enclosed(const char* close);
  Expression component();
  // {n \choose k}
  std::optional<Expression> choose();
  Expression braced();
  static const std::map<std::string, std::string>& function_names();
  static bool is_many(const std::string& name);
  Expression command(const std::string& name);
  Expression function(const std::string& name);
  bool names_symbol(const Token& token) const;
  // f(x), f(x, y): the name of a symbol before parentheses with one atom or several parts.
  std::optional<Expression> unknown_function();
  bool try_atom(bool round, std::vector<Expression>& args);
  Expression symbol_with_power();
  Expression symbol();
  Expression atom();
  static Expression scientific(const std::string& text);
  Expression matrix();

  static constexpr int kDepthLimit = 100;
  // Looks at a token; formulas of the MATH data set take up to some thousands.
  static constexpr int64_t kStepLimit = 50'000;

  std::string_view formula_;
  std::vector<Token> tokens_;
  std::vector<size_t> closing_;  // for each opening bracket, the place after its match
  bool real_, has_choose_ = false;
  size_t at_ = 0;
  int depth_ = 0, bars_ = 0;
  int64_t steps_ = 0;
};

}  // namespace narrow::evaluate::math
