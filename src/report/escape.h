// Text from models, data sets and files on its way into a page. What could act or mislead is made
// visible: markup is escaped, control, bidirectional and invisible characters appear as <U+202E>,
// invalid UTF-8 as U+FFFD.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace narrow::report {

// Plain text with control and invisible characters spelled out; line breaks and tabs stay.
std::string visible(std::string_view text);

// visible(), escaped for element content and quoted attributes.
std::string escape(std::string_view text);

// escape() of the first `limit` bytes (cut between characters), and how much is left out.
std::string escape_cut(std::string_view text, int64_t limit);

// For one cell of a Markdown table: visible(), on one line, markup characters escaped.
std::string escape_markdown(std::string_view text);

// One field of a CSV line, quoted where needed. A text that a spreadsheet would run as a formula
// is preceded by an apostrophe.
std::string escape_csv(std::string_view text);

// For the content of a <script type="application/json">.
std::string script_json(const Json& document);

}  // namespace narrow::report
