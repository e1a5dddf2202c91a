// Texts, numbers and lists written as Python writes them (ast.literal_eval): MuSR keeps its answers
// as "['Ana', \"Mackenzie's\"]", and templates of lm-evaluation-harness render lists so.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace narrow::evaluate {

// Lists and tuples become arrays, None null. Throws Error::refused at the offset of what is no
// literal of these kinds, or nests deeper than 32.
Json parse_python_literal(std::string_view text, const std::string& where);

}  // namespace narrow::evaluate
