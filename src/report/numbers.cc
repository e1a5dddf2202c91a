#include "report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace narrow::report {
namespace {

constexpr const char* kThinSpace = "\u202F";
constexpr const char* kMinus = "\u2212";

// Groups of three digits before the point, and a minus sign instead of a hyphen.
std::string typeset(const std::string& plain) {
  const bool negative = plain.starts_with('-');
  const std::string digits = plain.substr(negative ? 1 : 0);
  const size_t point = std::min(digits.find('.'), digits.size());
  std::string result = negative ? kMinus : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < point && point > 4 && (point - i) % 3 == 0) result += kThinSpace;
    result += digits[i];
  }
  return result;
}

}  // namespace

int decimals(double error, int otherwise) {
  if (!(error > 0)) return otherwise;
  return std::clamp(1 - static_cast<int>(std::floor(std::log10(error))), 0, 4);
}

double error_of(const std::optional<analyse::Interval>& interval) {
  return interval ? (interval->high - interval->low) / (2 * analyse::kZ95) : 0;
}

std::string fixed(double value, int decimals) {
  std::string plain = fmt::format("{:.{}f}", value, decimals);
  // No "-0.0".
  if (plain.starts_with('-') && plain.find_first_of("123456789") == std::string::npos)
    plain.erase(0, 1);
  return typeset(plain);
}

std::string percent(double share, int decimals) { return fixed(100 * share, decimals) + " %"; }

std::string points(double difference, int decimals) {
  const std::string text = fixed(100 * difference, decimals);
  return difference > 0 && text.find_first_of("123456789") != std::string::npos ? "+" + text : text;
}

std::string p_value(double p) {
  if (p < 0.001) return "< 0.001";
  return fmt::format("{:.{}f}", p, p < 0.1 ? 3 : 2);
}

std::string bytes(int64_t count) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(count);
  int unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return significant(value) + " " + kUnits[unit];
}

std::string seconds(double value) {
  if (value < 0.9995) return significant(1000 * value) + " ms";
  return significant(value) + " s";
}

std::string significant(double value, int digits) {
  if (value == 0) return "0";
  int magnitude = static_cast<int>(std::floor(std::log10(std::abs(value))));
  // 9.996 is written 10.0.
  if (std::abs(value) / std::pow(10, magnitude) >= 10 - 0.5 * std::pow(10, 1 - digits)) ++magnitude;
  if (magnitude < -5) return fmt::format("{:.{}e}", value, digits - 1);
  return fixed(value, std::max(0, digits - 1 - magnitude));
}

std::string whole(int64_t value) { return typeset(std::to_string(value)); }

std::string range(const std::optional<analyse::Interval>& interval, double scale, int decimals) {
  if (!interval) return {};
  return fmt::format("{} to {}", fixed(scale * interval->low, decimals),
                     fixed(scale * interval->high, decimals));
}

std::string signed_range(const std::optional<analyse::Interval>& interval, double scale,
                         int decimals) {
  if (!interval) return {};
  return fmt::format("{} to {}", points(scale * interval->low / 100, decimals),
                     points(scale * interval->high / 100, decimals));
}

}  // namespace narrow::report
