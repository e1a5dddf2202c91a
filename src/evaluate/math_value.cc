// Values of expressions: in the prime field and in complex long double.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <numeric>

#include "evaluate/math_expression.h"
#include "evaluate/math_field.h"

namespace narrow::evaluate::math {
namespace {

using Complex = std::complex<long double>;

constexpr int kPoints = 6;
// Beyond these a factorial or power has no use in an answer.
constexpr int64_t kFactorialLimit = 10'000, kExponentLimit = int64_t{1} << 40;
// Relative difference up to which two values are the same: 15 digits, as sympy compares.
constexpr long double kTolerance = 1e-14L;
constexpr long double kSmallest = 1e-3L;  // the tolerance of smaller values is absolute

uint64_t mix(uint64_t x) {  // SplitMix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t random_bits(const std::string& name, int point) {
  uint64_t hash = mix(static_cast<uint64_t>(point) + 1);
  for (const char c : name) hash = mix(hash ^ static_cast<unsigned char>(c));
  return hash;
}

long double unit(uint64_t bits) {
  return static_cast<long double>(bits >> 11) / 9007199254740992.0L;
}

// Over six points a real symbol takes small, middling and large values of both signs, so that |x -
// 1| and x - 1 differ; where it begins depends on its name.
Complex random_value(const std::string& name, bool real, int point) {
  static constexpr struct {
    long double least, width;
  } kRanges[] = {{1.2L, 1}, {-2.3L, 2}, {0.1L, 0.7L}, {-9, 6}, {3, 6}, {-0.8L, 0.7L}};
  const uint64_t bits = random_bits(name, point);
  const auto& range = kRanges[(static_cast<uint64_t>(point) + random_bits(name, -1)) % 6];
  const long double part = range.least + range.width * unit(bits);
  if (real) return part;
  return {part, 0.3L + 2 * unit(mix(bits))};
}

std::string symbol_name(const Node& node) { return node.name + (node.real ? "" : "?"); }

std::optional<int64_t> small_integer(const Expression& expression) {
  if (!is_number(expression)) return std::nullopt;
  const Number& number = expression->number;
  if (number.denominator != 1 || std::abs(number.numerator) > kExponentLimit) return std::nullopt;
  return number.numerator;
}

std::optional<uint64_t> field_power(const Expression& base, const Expression& exponent, int point) {
  const auto value = field_value(base, point);
  std::optional<int64_t> times = small_integer(exponent);
  if (!times) {
    // An exponent that is itself computed: exact while it is a small integer.
    const auto numeric = numeric_value(exponent, point);
    std::vector<std::string> symbols;
    collect_symbols(exponent, symbols);
    if (!symbols.empty() || !numeric || std::abs(numeric->imag()) > 0 ||
        std::abs(numeric->real()) > 1e6L || std::rint(numeric->real()) != numeric->real())
      return std::nullopt;
    times = static_cast<int64_t>(numeric->real());
  }
  if (!value) return std::nullopt;
  if (*times >= 0) return field::power(*value, static_cast<uint64_t>(*times));
  if (*value == 0) return std::nullopt;
  return field::divide(1, field::power(*value, static_cast<uint64_t>(-*times)));
}

std::optional<uint64_t> field_function(const Node& node) {
  if (node.name == "factorial") {
    const auto n = small_integer(node.args[0]);
    if (!n || *n < 0 || *n > kFactorialLimit) return std::nullopt;
    uint64_t product = 1;
    for (int64_t i = 2; i <= *n; ++i) product = field::multiply(product, static_cast<uint64_t>(i));
    return product;
  }
  if (node.name == "binomial") {
    const auto n = small_integer(node.args[0]), k = small_integer(node.args[1]);
    if (!n || !k || *n < 0 || *k < 0 || *k > kFactorialLimit) return std::nullopt;
    uint64_t product = 1;
    for (int64_t i = 0; i < *k; ++i)
      product = field::divide(field::multiply(product, field::from_integer(*n - i)),
                              field::from_integer(i + 1));
    return product;
  }
  return std::nullopt;
}

// Off the real line by Stirling's series (DLMF 5.11.1), reached by steps of Γ(z + 1) = z Γ(z):
// eight terms are below 1e-19 from 20 on.
Complex gamma_of(Complex z) {
  constexpr long double kFrom = 20, kMostSteps = 1000;
  if (z.imag() == 0) return std::tgamma(z.real());
  if (!(z.real() > kFrom - kMostSteps)) return {NAN, 0};
  Complex product = 1;
  for (; z.real() < kFrom; z += 1.0L) product *= z;
  static constexpr long double kTerms[] = {1 / 12.0L,    -1 / 360.0L,      1 / 1260.0L,
                                           -1 / 1680.0L, 1 / 1188.0L,      -691 / 360360.0L,
                                           1 / 156.0L,   -3617 / 122400.0L};
  Complex sum = (z - 0.5L) * std::log(z) - z + 0.5L * std::log(2 * std::numbers::pi_v<long double>);
  Complex power = 1.0L / z;
  for (const long double term : kTerms) {
    sum += term * power;
    power /= z * z;
  }
  return std::exp(sum) / product;
}

Complex binomial(Complex n, Complex k) {
  if (n.imag() != 0 || k.imag() != 0) return {NAN, 0};
  if (std::rint(k.real()) == k.real() && k.real() >= 0 && k.real() <= kFactorialLimit) {
    Complex product = 1;
    for (int64_t i = 0; i < static_cast<int64_t>(k.real()); ++i)
      product *= (n - static_cast<long double>(i)) / static_cast<long double>(i + 1);
    return product;
  }
  return gamma_of(n + 1.0L) / gamma_of(k + 1.0L) / gamma_of(n - k + 1.0L);
}

Complex real_only(Complex z, long double (*apply)(long double)) {
  if (z.imag() != 0) return {NAN, 0};
  // A value that rounding left just beside an integer is that integer.
  const long double nearest = std::rint(z.real());
  if (std::abs(z.real() - nearest) < 1e-15L * std::max(1.0L, std::abs(nearest))) return nearest;
  return apply(z.real());
}

using Unary = std::function<Complex(Complex)>;

const std::map<std::string, Unary>& unary_functions() {
  static const std::map<std::string, Unary> kFunctions{
      {"sin", [](Complex z) { return std::sin(z); }},
      {"cos", [](Complex z) { return std::cos(z); }},
      {"tan", [](Complex z) { return std::tan(z); }},
      {"csc", [](Complex z) { return 1.0L / std::sin(z); }},
      {"sec", [](Complex z) { return 1.0L / std::cos(z); }},
      {"cot", [](Complex z) { return std::cos(z) / std::sin(z); }},
      {"asin", [](Complex z) { return std::asin(z); }},
      {"acos", [](Complex z) { return std::acos(z); }},
      {"atan", [](Complex z) { return std::atan(z); }},
      {"acsc", [](Complex z) { return std::asin(1.0L / z); }},
      {"asec", [](Complex z) { return std::acos(1.0L / z); }},
      {"acot", [](Complex z) { return std::atan(1.0L / z); }},
      {"sinh", [](Complex z) { return std::sinh(z); }},
      {"cosh", [](Complex z) { return std::cosh(z); }},
      {"tanh", [](Complex z) { return std::tanh(z); }},
      {"asinh", [](Complex z) { return std::asinh(z); }},
      {"acosh", [](Complex z) { return std::acosh(z); }},
      {"atanh", [](Complex z) { return std::atanh(z); }},
      {"conjugate", [](Complex z) { return std::conj(z); }},
      {"ln", [](Complex z) { return std::log(z); }},
      {"abs", [](Complex z) { return Complex(std::abs(z)); }},
      {"factorial", [](Complex z) { return gamma_of(z + 1.0L); }},
      {"floor",
       [](Complex z) { return real_only(z, [](long double x) { return std::floor(x); }); }},
      {"ceiling",
       [](Complex z) { return real_only(z, [](long double x) { return std::ceil(x); }); }}};
  return kFunctions;
}

// An unknown function: some smooth value that depends on its name and arguments alone.
Complex unknown_function(const std::string& name, const std::vector<Complex>& args) {
  Complex sum = unit(random_bits(name, 0));
  for (size_t i = 0; i < args.size(); ++i)
    sum += args[i] * (0.5L + unit(random_bits(name, static_cast<int>(i) + 1)));
  return std::cos(sum);
}

Complex call(const std::string& name, const std::vector<Complex>& args) {
  if (args.size() == 1) {
    const auto found = unary_functions().find(name);
    if (found != unary_functions().end()) return found->second(args[0]);
  }
  if (args.size() == 2) {
    if (name == "log") return std::log(args[0]) / std::log(args[1]);
    if (name == "binomial") return binomial(args[0], args[1]);
  }
  const bool real =
      std::all_of(args.begin(), args.end(), [](const Complex& z) { return z.imag() == 0; });
  if (name == "mod" && args.size() == 2 && real) {
    const long double a = args[0].real(), b = args[1].real();
    return a - b * std::floor(a / b);
  }
  if ((name == "max" || name == "min" || name == "gcd" || name == "lcm") && !args.empty()) {
    if (!real) return {NAN, 0};
    long double best = args[0].real();
    for (const Complex& z : args) {
      const long double x = z.real();
      if (name == "max") best = std::max(best, x);
      if (name == "min") best = std::min(best, x);
      if (name == "gcd" || name == "lcm") {
        if (std::abs(x) > 1e15L || std::abs(best) > 1e15L || std::rint(x) != x ||
            std::rint(best) != best)
          return {NAN, 0};
        const auto a = static_cast<int64_t>(best), b = static_cast<int64_t>(x);
        const int64_t divisor = std::gcd(a, b);
        best = name == "gcd"  ? static_cast<long double>(divisor)
               : divisor == 0 ? 0.0L
                              : best / static_cast<long double>(divisor) * x;
      }
    }
    return best;
  }
  return unknown_function(name, args);
}

Complex raise(Complex base, const Expression& exponent, Complex value) {
  if (const auto times = small_integer(exponent); times && std::abs(*times) <= 64) {
    Complex result = 1;
    for (int64_t i = 0; i < std::abs(*times); ++i) result *= base;
    return *times < 0 ? 1.0L / result : result;
  }
  if (base == Complex(0))
    return value.real() > 0 ? Complex(0) : value == Complex(0) ? Complex(1) : Complex(NAN);
  // A real base and exponent stay real, and keep their sign and digits.
  if (base.imag() == 0 && value.imag() == 0) {
    if (base.real() > 0) return std::pow(base.real(), value.real());
    if (value.real() == 0.5L) return {0, std::sqrt(-base.real())};
  }
  return std::pow(base, value);
}

bool finite(Complex z) { return std::isfinite(z.real()) && std::isfinite(z.imag()); }

}  // namespace

std::optional<uint64_t> field_value(const Expression& expression, int point) {
  const Node& node = *expression;
  switch (node.kind) {
    case Kind::number:
      return node.number.residue;
    case Kind::percent: {
      const auto value = field_value(node.args[0], point);
      if (!value) return value;
      return field::divide(*value, 100);
    }
    case Kind::symbol:
      return random_bits(symbol_name(node), point) % field::kPrime;
    case Kind::constant:
      if (node.name == "i") return field::kImaginary;
      // Transcendental: as good as a symbol.
      if (node.name == "pi" || node.name == "e")
        return random_bits("\\" + node.name, point) % field::kPrime;
      return std::nullopt;
    case Kind::add:
    case Kind::mul: {
      uint64_t result = node.kind == Kind::add ? 0 : 1;
      for (const Expression& arg : node.args) {
        const auto value = field_value(arg, point);
        if (!value) return value;
        result =
            node.kind == Kind::add ? field::add(result, *value) : field::multiply(result, *value);
      }
      return result;
    }
    case Kind::power:
      return field_power(node.args[0], node.args[1], point);
    case Kind::function:
      return field_function(node);
    default:
      return std::nullopt;
  }
}

std::optional<Complex> numeric_value(const Expression& expression, int point) {
  const Node& node = *expression;
  if (node.kind == Kind::number) return node.number.value;
  if (node.kind == Kind::symbol) return random_value(symbol_name(node), node.real, point);
  if (node.kind == Kind::constant) {
    if (node.name == "pi") return std::numbers::pi_v<long double>;
    if (node.name == "e") return std::numbers::e_v<long double>;
    if (node.name == "i") return Complex(0, 1);
    return std::nullopt;
  }
  if (!is_scalar(expression)) return std::nullopt;
  std::vector<Complex> args;
  for (const Expression& arg : node.args) {
    const auto value = numeric_value(arg, point);
    if (!value) return value;
    args.push_back(*value);
  }
  Complex result = 0;
  if (node.kind == Kind::percent) {
    result = args[0] / 100.0L;
  } else if (node.kind == Kind::add) {
    for (const Complex& value : args) result += value;
  } else if (node.kind == Kind::mul) {
    result = 1;
    for (const Complex& value : args) result *= value;
  } else if (node.kind == Kind::power) {
    result = raise(args[0], node.args[1], args[1]);
  } else {
    result = call(node.name, args);
  }
  if (!finite(result)) return std::nullopt;
  return result;
}

namespace {

bool holds_decimal(const Expression& expression) {
  if (is_number(expression)) return expression->number.decimal;
  return std::any_of(expression->args.begin(), expression->args.end(), holds_decimal);
}

// What sympy's floats of 53 bits make of sums and products of numbers, in the order written.
std::optional<double> float_value(const Expression& expression) {
  const Node& node = *expression;
  if (node.kind == Kind::number) return static_cast<double>(node.number.value);
  if (node.kind == Kind::power && small_integer(node.args[1]) == -1) {
    const auto base = float_value(node.args[0]);
    if (!base || *base == 0) return std::nullopt;
    return 1.0 / *base;
  }
  if (node.kind != Kind::add && node.kind != Kind::mul) return std::nullopt;
  double result = node.kind == Kind::add ? 0 : 1;
  for (const Expression& arg : node.args) {
    const auto value = float_value(arg);
    if (!value) return value;
    result = node.kind == Kind::add ? result + *value : result * *value;
  }
  return result;
}

}  // namespace

bool floats_differ(const Expression& left, const Expression& right) {
  if (!holds_decimal(left) && !holds_decimal(right)) return false;
  const auto a = float_value(left), b = float_value(right);
  return a && b && *a != *b;
}

bool same_value(const Expression& left, const Expression& right) {
  if (!is_scalar(left) || !is_scalar(right)) return false;
  bool exact = true;
  for (int point = 0; point < 2 && exact; ++point) {
    const auto a = field_value(left, point), b = field_value(right, point);
    exact = a && b;
    if (exact && *a != *b) return false;
  }
  if (exact) return true;
  int compared = 0;
  for (int point = 0; point < kPoints; ++point) {
    const auto a = numeric_value(left, point), b = numeric_value(right, point);
    if (!a || !b) continue;
    const long double scale = std::max({std::abs(*a), std::abs(*b), kSmallest});
    if (!(std::abs(*a - *b) <= kTolerance * scale)) return false;
    ++compared;
  }
  return compared > 0;
}

}  // namespace narrow::evaluate::math
