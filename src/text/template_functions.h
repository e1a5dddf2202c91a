// Filters, tests and methods of the template language: pure functions of values.
#pragma once

#include <string>

#include "text/template_value.h"

namespace narrow::text::jinja {

// All throw Error::refused for a name that is not there or arguments that do not fit.
Value apply_filter(const std::string& name, const Value& input, Arguments& arguments);
bool apply_test(const std::string& name, const Value& input, Arguments& arguments);
// "text".strip(), {…}.items(), [...].index(x) …
Value call_method(const Value& object, const std::string& name, Arguments& arguments);

// The element, or Undefined. Negative list indices count from the end.
Value subscript(const Value& object, const Value& key);
Value slice(const Value& object, const Value& from, const Value& to, const Value& step);
bool contains(const Value& container, const Value& item);

// Elements of a list, keys of a dict, characters of a text.
List iterate(const Value& value);

}  // namespace narrow::text::jinja
