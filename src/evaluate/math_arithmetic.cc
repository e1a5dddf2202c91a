#include <utility>

#include "evaluate/math_parser.h"

namespace narrow::evaluate::math {
namespace {

constexpr int kDepthLimit = 100;

// Recursive descent over Python's operators.
class Arithmetic {
 public:
  explicit Arithmetic(std::string_view text) : text_(text) {}

  Expression run() {
    Expression value = sum();
    skip();
    if (at_ != text_.size()) throw Unparsable("not arithmetic");
    return value;
  }

 private:
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool take(std::string_view sign) {
    skip();
    if (!text_.substr(at_).starts_with(sign)) return false;
    at_ += sign.size();
    return true;
  }
  bool next_is(std::string_view sign) {
    skip();
    return text_.substr(at_).starts_with(sign);
  }

  Expression sum() {
    Expression left = product();
    while (true) {
      if (take("+")) {
        left = add(std::move(left), product());
      } else if (take("-")) {
        left = add(std::move(left), negate(product()));
      } else {
        return left;
      }
    }
  }

  Expression product() {
    Expression left = unary();
    while (true) {
      if (!next_is("**") && take("*")) {
        left = multiply(std::move(left), unary());
      } else if (!next_is("//") && take("/")) {
        Expression right = unary();
        left = multiply(std::move(left), power(std::move(right), make_integer(-1)));
      } else {
        return left;
      }
    }
  }

  Expression unary() {
    if (++depth_ > kDepthLimit) throw Unparsable("nested too deeply");
    Expression value;
    if (take("-")) {
      value = negate(unary());
    } else if (take("+")) {
      value = unary();
    } else {
      value = atom();
      if (take("**")) value = power(std::move(value), unary());
    }
    --depth_;
    return value;
  }

  Expression atom() {
    if (take("(")) {
      Expression value = sum();
      if (!take(")")) throw Unparsable("an open parenthesis");
      return value;
    }
    skip();
    size_t end = at_;
    while (end < text_.size() && ((text_[end] >= '0' && text_[end] <= '9') || text_[end] == '.'))
      ++end;
    const std::string_view digits = text_.substr(at_, end - at_);
    const auto number = parse_number(digits);
    // Python has no integers with leading zeros.
    if (!number || (!number->decimal && digits.size() > 1 && digits[0] == '0' &&
                    digits.find_first_not_of('0') != std::string_view::npos))
      throw Unparsable("not a number");
    at_ = end;
    return make_number(*number);
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Expression parse_arithmetic(std::string_view formula) {
  if (formula.size() > kFormulaBytes) throw Unparsable("too long");
  return Arithmetic(formula).run();
}

}  // namespace narrow::evaluate::math
