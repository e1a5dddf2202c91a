// Runs a parsed template. Bounded in steps, recursion and output; no access to anything but the
// variables given.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "text/template_parser.h"

namespace narrow::text::jinja {

struct Limits {
  int64_t steps = 2'000'000;  // expressions and statements evaluated
  size_t output_bytes = size_t{16} << 20;
};

// Unknown names: `strict` refuses to print them, otherwise they print as nothing.
Text run(const Body& body, const std::unordered_map<std::string, Value>& variables, bool strict,
         const Limits& limits = {});
// The value of a template that is one "{{ expression }}" and nothing else; nullptr otherwise.
std::unique_ptr<Value> run_expression(const Body& body,
                                      const std::unordered_map<std::string, Value>& variables,
                                      const Limits& limits = {});

}  // namespace narrow::text::jinja
