// Template source to tokens: text between tags, and what stands in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/template_parser.h"

namespace narrow::text::jinja {

struct Token {
  enum class Kind {
    text,
    name,
    integer,
    real,
    string,
    symbol,
    block_begin,
    block_end,
    output_begin,
    output_end,
    end
  };
  Kind kind;
  std::string text;
  int line;
};

// Throws Error::refused with the line. Every kind of line end is "\n", as in jinja2.
std::vector<Token> tokenize(std::string_view source, const Syntax& syntax);

}  // namespace narrow::text::jinja
