// The 25 checkers of IFEval, by name. For ifeval.cc.
#pragma once

#include <string>

#include "base/json.h"

namespace narrow::evaluate {

// A checker answers whether `response` (valid UTF-8, not blank) follows the instruction with these
// arguments. Null when there is no checker of that name. What it throws: ifeval.h.
using IfevalChecker = bool (*)(const Json& arguments, const std::string& response);
IfevalChecker find_ifeval_checker(const std::string& instruction);

}  // namespace narrow::evaluate
