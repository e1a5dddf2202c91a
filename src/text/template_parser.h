// Template source to a tree. Throws Error::refused with the line for what is not understood, and
// for nesting beyond kMaxDepth.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/template_value.h"

namespace narrow::text::jinja {

inline constexpr int kMaxDepth = 64;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Argument {
  std::string name;  // empty: positional
  ExpressionPtr value;
};

struct Expression {
  enum class Kind {
    literal,    // value
    name,       // text
    list,       // items
    tuple,      // items
    dict,       // items: key, value, key, value …
    attribute,  // items[0] . text
    index,      // items[0] [ items[1] ]
    slice,      // items[0] [ items[1] : items[2] : items[3] ], absent ones null
    call,       // items[0] ( arguments )
    filter,     // items[0] | text ( arguments )
    test,       // items[0] is text ( arguments ), negated
    unary,      // text: "-", "+", "not"
    binary,     // text: operator
    condition,  // items[0] if items[1] else items[2] (may be null)
  };
  Kind kind;
  int line = 0;
  Value value;
  std::string text;
  bool negated = false;
  std::vector<ExpressionPtr> items;
  std::vector<Argument> arguments;
};

struct Node;
using Body = std::vector<std::unique_ptr<Node>>;

struct Node {
  enum class Kind {
    text,       // text
    output,     // expression
    branch,     // expression, body, otherwise
    loop,       // names in expression [if filter], body, otherwise
    assign,     // names (or names[0].attribute) = expression, or the rendered body
    macro,      // text(names, defaults), body
    group,      // body ("generation" blocks)
    stop_loop,  // text: "break" or "continue"
  };
  Kind kind;
  int line = 0;
  std::string text;
  std::string attribute;
  std::vector<std::string> names;
  std::vector<ExpressionPtr> defaults;  // of names, null for none
  ExpressionPtr expression, filter;
  Body body, otherwise;
};

struct Syntax {
  bool trim_blocks = false;    // a newline after a block tag is dropped
  bool lstrip_blocks = false;  // blanks before a block tag on its line are dropped
  bool keep_trailing_newline = false;
};

Body parse(std::string_view source, const Syntax& syntax);

}  // namespace narrow::text::jinja
