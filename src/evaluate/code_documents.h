// Rows of EvalPlus's data sets as documents. Their inputs hold ints beyond 64 bits and infinities,
// which JSON parsers lose or refuse; they stay text, and the oracle's Python reads them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace narrow::evaluate {

// One line: an object whose fields "base_input" and "plus_input", if there, become strings of JSON
// text. `where` names the line. Throws Error::refused for what is no object, or has a field twice.
Json parse_code_document(std::string_view line, const std::string& where);

// The lines of a .jsonl or .jsonl.gz file. Throws Error::refused naming file and line.
std::vector<Json> read_code_documents(const std::filesystem::path& path);

}  // namespace narrow::evaluate
