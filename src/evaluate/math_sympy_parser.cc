// The grammar of sympy.parsing.latex.parse_latex (sympy 1.14, its ANTLR back end), behind Minerva's
// comparison. It is poorer than math-verify's: i, e and \pi are mere symbols, there are no sets and
// tuples, a formula ends where no rule goes on, and a letter before parentheses is a function.
#include <map>
#include <utility>

#include "evaluate/math_parser.h"

namespace narrow::evaluate::math {
namespace {

constexpr int kDepthLimit = 100;
constexpr int64_t kStepLimit = 200'000;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

const std::map<std::string_view, const char*>& functions() {
  static const std::map<std::string_view, const char*> kFunctions{
      {"exp", "exp"},      {"log", "ln"},      {"lg", "lg"},       {"ln", "ln"},
      {"sin", "sin"},      {"cos", "cos"},     {"tan", "tan"},     {"csc", "csc"},
      {"sec", "sec"},      {"cot", "cot"},     {"arcsin", "asin"}, {"arccos", "acos"},
      {"arctan", "atan"},  {"arccsc", "acsc"}, {"arcsec", "asec"}, {"arccot", "acot"},
      {"sinh", "sinh"},    {"cosh", "cosh"},   {"tanh", "tanh"},   {"arsinh", "asinh"},
      {"arcosh", "acosh"}, {"artanh", "atanh"}};
  return kFunctions;
}

class SympyParser {
 public:
  explicit SympyParser(std::string_view text) : text_(text) {}

  Expression run() {
    Expression value = expression();
    const std::string_view next = token();
    for (const char* relation : {"=", "<", ">", "\\le", "\\leq", "\\ge", "\\geq", "\\neq", "\\leqq",
                                 "\\geqq", "\\leqslant", "\\geqslant"})
      if (next == relation) throw Unparsable("a relation has no value");
    return value;
  }

 private:
  // The token at the front, "" at the end. A character that begins none ends the reading for good.
  std::string_view token() {
    if (++steps_ > kStepLimit) fail_for_good("too many steps");
    while (at_ < text_.size()) {
      const std::string_view rest = text_.substr(at_);
      if (is_blank(rest[0])) {
        ++at_;
        continue;
      }
      if (rest[0] != '\\') {
        if (is_letter(rest[0]) || is_digit(rest[0]) ||
            std::string_view("+-*/(){}[]|_^:<>!',.=").find(rest[0]) != std::string_view::npos)
          return rest.substr(0, 1);
        fail_for_good("no token begins here");
      }
      size_t length = 1;
      while (length < rest.size() && is_letter(rest[length])) ++length;
      if (length == 1) {
        if (rest.size() > 1 && (rest[1] == '{' || rest[1] == '}')) return rest.substr(0, 2);
        if (rest.size() > 1 &&
            std::string_view(",:;!*-./\"(=").find(rest[1]) != std::string_view::npos) {
          at_ += 2;
          continue;
        }
        fail_for_good("no token begins here");
      }
      const std::string_view command = rest.substr(0, length);
      if (!skipped(command)) return command;
      at_ += length;
    }
    return {};
  }

  static bool skipped(std::string_view command) {
    for (const char* name : {"\\left", "\\right", "\\quad", "\\qquad", "\\thinspace", "\\medspace",
                             "\\thickspace", "\\negthinspace", "\\negmedspace", "\\negthickspace",
                             "\\vrule", "\\vcenter", "\\vbox", "\\vskip", "\\vspace", "\\hfil"})
      if (command == name) return true;
    return false;
  }

  [[noreturn]] void fail_for_good(const char* what) {
    final_ = true;
    throw Unparsable(what);
  }

  bool take(std::string_view wanted) {
    const std::string_view next = token();
    if (next != wanted) return false;
    at_ += next.size();
    return true;
  }
  void expect(std::string_view wanted) {
    if (!take(wanted)) throw Unparsable("expected " + std::string(wanted));
  }

  // Reads on if it can; otherwise what was read before stands.
  template <class Read>
  bool attempt(Read read) {
    const size_t start = at_;
    const int depth = depth_;
    try {
      read();
      return true;
    } catch (const Unparsable&) {
      if (final_) throw;
      at_ = start;
      depth_ = depth;
      return false;
    }
  }

  Expression expression() {
    if (++depth_ > kDepthLimit) fail_for_good("nested too deeply");
    Expression left = product(true);
    const auto term = [&] {
      if (take("+")) {
        left = add(left, product(true));
      } else {
        expect("-");
        left = add(left, negate(product(true)));
      }
    };
    while ((token() == "+" || token() == "-") && attempt(term)) {
    }
    --depth_;
    return left;
  }

  Expression product(bool with_functions) {
    Expression left = signed_factors(with_functions);
    const auto factor = [&] {
      if (take("*") || take("\\times") || take("\\cdot")) {
        left = multiply(left, signed_factors(with_functions));
      } else {
        if (!take("/") && !take("\\div")) expect(":");
        left = divide(left, signed_factors(with_functions));
      }
    };
    const auto continues = [&] {
      const std::string_view next = token();
      return next == "*" || next == "\\times" || next == "\\cdot" || next == "/" ||
             next == "\\div" || next == ":";
    };
    while (continues() && attempt(factor)) {
    }
    return left;
  }

  Expression signed_factors(bool with_functions) {
    bool negative = false;
    while (true) {
      if (take("-")) {
        negative = !negative;
      } else if (!take("+")) {
        break;
      }
    }
    std::vector<Expression> factors{postfix()};
    while (starts_factor(with_functions) && attempt([&] { factors.push_back(postfix()); })) {
    }
    Expression value = joined(factors);
    return negative ? negate(std::move(value)) : value;
  }

  // The letter x between two numbers is a multiplication sign.
  static Expression joined(const std::vector<Expression>& factors) {
    Expression value = factors[0];
    for (size_t i = 1; i < factors.size(); ++i) {
      const bool sign = factors[i]->kind == Kind::symbol && factors[i]->name == "x" &&
                        i + 1 < factors.size() && no_symbols(factors[i - 1]) &&
                        no_symbols(factors[i + 1]);
      if (!sign) value = multiply(std::move(value), factors[i]);
    }
    return value;
  }
  static bool no_symbols(const Expression& value) {
    std::vector<std::string> names;
    collect_symbols(value, names);
    return names.empty();
  }

  bool starts_factor(bool with_functions) {
    const std::string_view next = token();
    if (next.empty()) return false;
    if (is_letter(next[0]) || is_digit(next[0]) || next == "(" || next == "{" || next == "[" ||
        next == "\\{" || (next == "|" && bars_ == 0))
      return true;
    if (next[0] != '\\' || next == "\\}" || ends_formula(next)) return false;
    const bool function =
        functions().contains(next.substr(1)) || next == "\\sqrt" || next == "\\overline";
    return with_functions || !function;
  }

  static bool ends_formula(std::string_view command) {
    for (const char* name : {"\\le",
                             "\\leq",
                             "\\ge",
                             "\\geq",
                             "\\neq",
                             "\\leqq",
                             "\\geqq",
                             "\\leqslant",
                             "\\geqslant",
                             "\\to",
                             "\\rightarrow",
                             "\\Rightarrow",
                             "\\longrightarrow",
                             "\\Longrightarrow",
                             "\\times",
                             "\\cdot",
                             "\\div",
                             "\\rfloor",
                             "\\rceil",
                             "\\rangle"})
      if (command == name) return true;
    return false;
  }

  Expression postfix() {
    Expression value = component();
    while (token() == "^" && attempt([&] {
             expect("^");
             value = power(value, script());
             if (take("_")) script();
           })) {
    }
    while (take("!")) value = make(Kind::function, {value}, "factorial");
    return value;
  }

  Expression script() {
    if (!take("{")) return atom();
    Expression inner = expression();
    expect("}");
    return inner;
  }

  Expression enclosed(const char* close) {
    Expression inner = expression();
    expect(close);
    return inner;
  }

  Expression component() {
    if (++depth_ > kDepthLimit) fail_for_good("nested too deeply");
    Expression value;
    if (take("(")) {
      value = enclosed(")");
    } else if (take("[")) {
      value = enclosed("]");
    } else if (take("{")) {
      value = enclosed("}");
    } else if (take("\\{")) {
      value = enclosed("\\}");
    } else if (take("|")) {
      ++bars_;
      value = make(Kind::function, {expression()}, "abs");
      --bars_;
      expect("|");
    } else {
      value = call();
    }
    --depth_;
    return value;
  }

  Expression call() {
    const std::string_view next = token();
    if (next == "\\sqrt") {
      at_ += next.size();
      Expression root = make_integer(2);
      if (take("[")) root = enclosed("]");
      expect("{");
      return power(enclosed("}"), divide(make_integer(1), std::move(root)));
    }
    if (next == "\\overline") {
      at_ += next.size();
      expect("{");
      return make(Kind::function, {enclosed("}")}, "conjugate");
    }
    if (next == "\\lfloor" || next == "\\lceil") {
      at_ += next.size();
      const bool floor = next == "\\lfloor";
      return make(Kind::function, {enclosed(floor ? "\\rfloor" : "\\rceil")},
                  floor ? "floor" : "ceiling");
    }
    for (const char* unread : {"\\int", "\\sum", "\\prod", "\\lim", "\\langle"})
      if (next == unread) throw Unparsable("not read here");
    if (next.size() > 1) {
      const auto known = functions().find(next.substr(1));
      if (known != functions().end()) {
        at_ += next.size();
        return function(known->second);
      }
    }
    Expression value;
    if (attempt([&] { value = unknown_function(); })) return value;
    return atom();
  }

  Expression function(const std::string& name) {
    Expression base, times, arg;
    const auto read = [&] {
      base = times = nullptr;
      for (int i = 0; i < 2; ++i) {
        if (!base && take("_")) base = script();
        if (!times && take("^")) times = script();
      }
      digit_limit_ = kAllDigits;
      if (!attempt([&] {
            expect("(");
            arg = enclosed(")");
          }))
        arg = product(false);
    };
    // In "\log_28" the argument takes a digit of the base, since there is no other.
    if (!attempt(read)) {
      digit_limit_ = 1;
      read();
    }
    std::string called = name;
    if (times && is_number(times) && times->number.value == -1 && name != "exp" && name != "ln") {
      called = "a" + name;
      times = nullptr;
    }
    Expression value;
    if (called == "exp") {
      value = power(make_constant("e"), arg);
    } else if (called == "ln" || called == "lg") {
      value = make(Kind::function,
                   {arg, base             ? base
                         : called == "lg" ? make_integer(10)
                                          : make_constant("e")},
                   "log");
    } else {
      value = make(Kind::function, {arg}, called);
    }
    return times ? power(std::move(value), std::move(times)) : value;
  }

  Expression unknown_function() {
    const std::string_view next = token();
    const bool named = !next.empty() && (is_letter(next[0]) || next.size() > 2);
    if (!named || ends_formula(next)) throw Unparsable("no name");
    std::string name(next);
    at_ += next.size();
    if (take("_")) name += "_" + structure(script());
    while (take("'")) name += "'";
    expect("(");
    std::vector<Expression> args{expression()};
    while (take(",")) args.push_back(expression());
    expect(")");
    return make(Kind::function, std::move(args), "call " + name);
  }

  Expression fraction_part() {
    const std::string_view next = token();
    if (!next.empty() && is_digit(next[0])) {
      ++at_;
      return make_integer(next[0] - '0');
    }
    expect("{");
    return enclosed("}");
  }

  Expression atom() {
    const std::string_view next = token();
    if (next.empty()) throw Unparsable("the formula breaks off");
    if (is_digit(next[0])) return number();
    if (next == "\\frac" || next == "\\dfrac" || next == "\\tfrac") {
      at_ += next.size();
      Expression upper = fraction_part();
      return divide(std::move(upper), fraction_part());
    }
    if (next == "\\binom" || next == "\\dbinom" || next == "\\tbinom") {
      at_ += next.size();
      expect("{");
      Expression upper = enclosed("}");
      expect("{");
      return make(Kind::function, {upper, enclosed("}")}, "binomial");
    }
    if (next == "\\infty") {
      at_ += next.size();
      return make_constant("oo");
    }
    std::string name(next[0] == '\\' ? next.substr(1) : next);
    if (!is_letter(name[0]) || ends_formula(next)) throw Unparsable("no atom");
    at_ += next.size();
    if (name == "d" && next[0] == 'd') {
      const std::string_view after = token();
      if (!after.empty() && (is_letter(after[0]) || (after[0] == '\\' && after.size() > 2))) {
        name += after[0] == '\\' ? after.substr(1) : after;
        at_ += after.size();
        return make_symbol(name, false);
      }
    }
    if (token() == "_")
      attempt([&] {
        expect("_");
        name += "_" + structure(script());
      });
    while (take("'")) name += "'";
    return make_symbol(name, false);
  }

  // Digits may stand apart; groups of three after commas belong to the number.
  Expression number() {
    std::string digits;
    const auto run = [&] {
      while (true) {
        const std::string_view next = token();
        if (next.empty() || !is_digit(next[0]) || digits.size() >= digit_limit_) return;
        digits += next;
        ++at_;
      }
    };
    run();
    const auto group = [&] {
      expect(",");
      std::string three;
      for (int i = 0; i < 3; ++i) {
        const std::string_view next = token();
        if (next.empty() || !is_digit(next[0])) throw Unparsable("no group");
        three += next;
        ++at_;
      }
      digits += three;
    };
    while (token() == "," && attempt(group)) {
    }
    if (take(".")) {
      digits += ".";
      run();
      if (digits.back() == '.') fail_for_good("a number breaks off");
    }
    // Python, which reads the digits in the end, has no integers such as 01.
    if (digits.size() > 1 && digits[0] == '0' && digits.find('.') == std::string::npos &&
        digits.find_first_not_of('0') != std::string::npos)
      fail_for_good("a number begins with 0");
    return make_number(*parse_number(digits));
  }

  static constexpr size_t kAllDigits = static_cast<size_t>(-1);

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0, bars_ = 0;
  int64_t steps_ = 0;
  size_t digit_limit_ = kAllDigits;
  bool final_ = false;
};

}  // namespace

Expression parse_sympy_latex(std::string_view formula) {
  if (formula.size() > kFormulaBytes) throw Unparsable("too long");
  return SympyParser(formula).run();
}

}  // namespace narrow::evaluate::math
