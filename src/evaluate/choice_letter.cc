#include "evaluate/choice_letter.h"

#include <string_view>
#include <vector>

#include "evaluate/filter.h"

namespace narrow::evaluate {
namespace {

// In the order of their priority.
const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all = [] {
    const std::string letter = R"((A|\(A\)|B|\(B\)|C|\(C\)|D|\(D\)))";
    const std::string suffix = R"((?:\*\*)?(?:\.|,|\s?:| |$))";
    const std::string answer = R"((?:^| )(?:\*\*)?)" + letter + suffix;
    std::vector<Pattern> list;
    for (const std::string& expression : {
             R"((?i:final answer is):?\s*)" + letter + R"(\.?\s?I hope)",
             R"((?i:final answer.{0,100}?)\s+is:?\s*)" + letter,
             R"((?i:answer)\s?:.{0,50}?)" + answer,
             "(?i:answer).{0,50}?" + answer,
             R"(^(?:\*\*)?)" + letter + suffix,
             R"(\n(?:\*\*)?)" + letter + suffix,
             answer,
             letter,
         })
      list.emplace_back(expression);
    return list;
  }();
  return all;
}

std::string without_reasoning(std::string text) {
  constexpr std::string_view kBegin = "<think>", kEnd = "</think>";
  for (size_t begin; (begin = text.find(kBegin)) != std::string::npos;) {
    const size_t end = text.find(kEnd, begin);
    if (end == std::string::npos) break;
    text.erase(begin, end + kEnd.size() - begin);
  }
  return text;
}

}  // namespace

std::optional<char> choice_letter(const std::string& response) {
  const std::string text = without_reasoning(response);
  for (const Pattern& pattern : patterns()) {
    const auto found = pattern.matches(text);
    if (found.empty()) continue;
    const std::string letter = found.back().groups[0].value();
    return letter.size() == 1 ? letter[0] : letter[1];
  }
  return std::nullopt;
}

}  // namespace narrow::evaluate
