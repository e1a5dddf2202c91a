#include "evaluate/ifeval_json.h"

#include <cstddef>

namespace narrow::evaluate {
namespace {

constexpr int kDepthLimit = 900;
constexpr size_t kIntegerDigits = 4300;  // sys.get_int_max_str_digits()

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool document() {
    skip_space();
    if (!value(0)) return false;
    skip_space();
    return rest_.empty();
  }

 private:
  bool take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  bool next_is(char c) const { return !rest_.empty() && rest_.front() == c; }
  void skip_space() {
    const size_t end = rest_.find_first_not_of(" \t\n\r");
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end);
  }

  bool value(int depth) {
    if (depth > kDepthLimit) return false;
    if (next_is('"')) return string();
    if (next_is('{')) return list(depth, '}', /*keys=*/true);
    if (next_is('[')) return list(depth, ']', /*keys=*/false);
    for (const std::string_view name : {"null", "true", "false", "NaN", "Infinity", "-Infinity"})
      if (take(name)) return true;
    return number();
  }

  bool list(int depth, char close, bool keys) {
    rest_.remove_prefix(1);
    skip_space();
    if (next_is(close)) return take(rest_.substr(0, 1));
    while (true) {
      if (keys) {
        if (!next_is('"') || !string()) return false;
        skip_space();
        if (!take(":")) return false;
        skip_space();
      }
      if (!value(depth + 1)) return false;
      skip_space();
      if (next_is(close)) return take(rest_.substr(0, 1));
      if (!take(",")) return false;
      skip_space();
    }
  }

  bool string() {
    rest_.remove_prefix(1);
    while (!rest_.empty()) {
      const auto c = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      if (c == '"') return true;
      if (c < 0x20) return false;
      if (c == '\\' && !escape()) return false;
    }
    return false;
  }

  bool escape() {
    if (rest_.empty()) return false;
    const char c = rest_.front();
    rest_.remove_prefix(1);
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
    if (rest_.size() < 4) return false;
    const bool hex =
        rest_.substr(0, 4).find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    rest_.remove_prefix(4);
    return hex;
  }

  size_t digits() {
    const size_t end = rest_.find_first_not_of("0123456789");
    const size_t count = end == std::string_view::npos ? rest_.size() : end;
    rest_.remove_prefix(count);
    return count;
  }

  // A fraction or exponent without digits is not part of the number; what follows then is refused.
  bool number() {
    take("-");
    const size_t whole = take("0") ? 1 : digits();
    if (whole == 0) return false;
    bool integer = true;
    for (const bool exponent : {false, true}) {
      const std::string_view before = rest_;
      if (exponent ? take("e") || take("E") : take(".")) {
        if (exponent && !take("-")) take("+");
        if (digits() > 0) {
          integer = false;
        } else {
          rest_ = before;
        }
      }
    }
    return !integer || whole <= kIntegerDigits;
  }

  std::string_view rest_;
};

}  // namespace

bool is_python_json(std::string_view text) { return Reader(text).document(); }

}  // namespace narrow::evaluate
