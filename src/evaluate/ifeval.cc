#include "evaluate/ifeval.h"

#include <algorithm>

#include "base/error.h"
#include "evaluate/ifeval_checkers.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

std::string join(const std::vector<std::string>& lines, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += (i > begin ? "\n" : "") + lines[i];
  return std::string(python::strip(text));
}

// The response, then without its first line, its last, both; then each without asterisks.
std::vector<std::string> loose_variants(const std::string& response) {
  const auto lines = python::split(response, "\n");
  const size_t last = lines.size() - 1;
  std::vector<std::string> variants{response, join(lines, 1, lines.size()), join(lines, 0, last),
                                    join(lines, 1, last)};
  for (size_t i = 0; i < 4; ++i) variants.push_back(python::replace(variants[i], "*", ""));
  return variants;
}

bool follows(IfevalChecker checker, const Json& arguments, const std::string& response) {
  return !python::strip(response).empty() && checker(arguments, response);
}

}  // namespace

IfevalVerdict judge_ifeval(const Json& document, const std::string& raw) {
  const std::string where = "an IFEval document";
  const auto names = json_get<std::vector<std::string>>(document, "instruction_id_list", where);
  const auto kwargs = json_get<std::vector<Json>>(document, "kwargs", where);
  if (names.size() != kwargs.size())
    throw Error::refused("\"kwargs\" and \"instruction_id_list\" differ in length", where);
  const std::string response = text::repair(raw);
  const auto variants = loose_variants(response);
  IfevalVerdict verdict{};
  for (size_t i = 0; i < names.size(); ++i) {
    const IfevalChecker checker = find_ifeval_checker(names[i]);
    if (!checker) throw Error::refused("no checker for the instruction", names[i]);
    const auto passes = [&](const std::string& variant) {
      return follows(checker, kwargs[i], variant);
    };
    verdict.instruction_strict.push_back(passes(response));
    verdict.instruction_loose.push_back(verdict.instruction_strict.back() ||
                                        std::any_of(variants.begin() + 1, variants.end(), passes));
  }
  const auto all = [](const std::vector<bool>& flags) {
    return std::all_of(flags.begin(), flags.end(), [](bool flag) { return flag; });
  };
  verdict.prompt_strict = all(verdict.instruction_strict);
  verdict.prompt_loose = all(verdict.instruction_loose);
  return verdict;
}

}  // namespace narrow::evaluate
