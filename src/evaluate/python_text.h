// Strings as Python's str methods treat them: characters are code points, white space and case are
// Unicode's. The harness's checkers are written in these terms. Everything here takes valid UTF-8
// (text::repair) and is pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace narrow::evaluate::python {

std::vector<uint32_t> code_points(std::string_view text);
bool is_space(uint32_t code_point);
bool is_upper(uint32_t code_point);  // str.isupper() of one character
bool is_lower(uint32_t code_point);

std::string_view strip(std::string_view text);
std::string_view strip_right(std::string_view text);
std::vector<std::string> split(std::string_view text);  // at runs of white space
std::vector<std::string> split(std::string_view text, std::string_view separator);
std::string replace(std::string_view text, std::string_view from, std::string_view to);
std::string lower(std::string_view text);
std::string without_punctuation(std::string_view text);  // of Unicode's categories P

// All cased characters are upper (lower) case, and there is one.
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

}  // namespace narrow::evaluate::python
