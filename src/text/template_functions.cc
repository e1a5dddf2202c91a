#include "text/template_functions.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

#include <utf8proc.h>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow::text::jinja {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error::refused(what, "template"); }

const Value* argument(const Arguments& arguments, size_t index, const char* name) {
  if (index < arguments.positional.size()) return &arguments.positional[index];
  for (const auto& [key, value] : arguments.named)
    if (key == name) return &value;
  return nullptr;
}

int64_t integer(const Value& value) {
  if (const int64_t* number = value.get<int64_t>()) return *number;
  if (const bool* flag = value.get<bool>()) return *flag;
  refuse("expected an integer");
}

const Text& text_of(const Value& value) {
  if (const Text* text = value.get<Text>()) return *text;
  refuse("expected text");
}

bool blank(char c) { return std::isspace(static_cast<unsigned char>(c)); }

Text strip(const Text& text, const std::string& characters, bool left, bool right) {
  const auto drop = [&](char c) {
    return characters.empty() ? blank(c) : characters.find(c) != std::string::npos;
  };
  size_t begin = 0, end = text.bytes.size();
  while (left && begin < end && drop(text.bytes[begin])) ++begin;
  while (right && end > begin && drop(text.bytes[end - 1])) --end;
  return text.substr(begin, end - begin);
}

Text replace(const Text& text, const std::string& from, const Text& to, int64_t limit) {
  if (from.empty()) refuse("replace of an empty text");
  Text result;
  size_t begin = 0;
  for (size_t at; limit != 0 && (at = text.bytes.find(from, begin)) != std::string::npos;
       begin = at + from.size(), --limit) {
    result += text.substr(begin, at - begin);
    result += to;
  }
  return result += text.substr(begin);
}

List split(const Text& text, const Value* separator, int64_t limit) {
  List parts;
  if (separator && !separator->none()) {
    const std::string& by = text_of(*separator).bytes;
    if (by.empty()) refuse("split by an empty text");
    size_t begin = 0;
    for (size_t at; limit != 0 && (at = text.bytes.find(by, begin)) != std::string::npos;
         begin = at + by.size(), --limit)
      parts.push_back(text.substr(begin, at - begin));
    parts.push_back(text.substr(begin));
    return parts;
  }
  for (size_t at = 0; at < text.bytes.size();) {
    while (at < text.bytes.size() && blank(text.bytes[at])) ++at;
    if (at == text.bytes.size()) break;
    size_t end = at;
    if (limit-- == 0) {
      end = text.bytes.size();
    } else {
      while (end < text.bytes.size() && !blank(text.bytes[end])) ++end;
    }
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

// Letter by letter, and "ß" to "SS"; the other letters that become several are left as they are.
Text map_case(const Text& text, utf8proc_int32_t (*change)(utf8proc_int32_t)) {
  Text result;
  for (const Value& value : iterate(text)) {
    const Text& letter = *value.get<Text>();
    utf8proc_int32_t code = -1;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(letter.bytes.data()),
                     static_cast<utf8proc_ssize_t>(letter.bytes.size()), &code);
    if (code < 0) {
      result += letter;
    } else {
      const bool sharp_s = code == 0xdf && change == utf8proc_toupper;
      const std::string changed = sharp_s ? "SS" : encode_utf8(static_cast<uint32_t>(change(code)));
      result += Text::make(changed, letter.marks[0]);
    }
  }
  return result;
}

Text upper(const Text& text) { return map_case(text, utf8proc_toupper); }
Text lower(const Text& text) { return map_case(text, utf8proc_tolower); }

Text title(Text text) {
  bool first = true;
  for (char& c : text.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) c = static_cast<char>(first ? std::toupper(byte) : std::tolower(byte));
    first = !std::isalpha(byte) && byte < 0x80;
  }
  return text;
}

Text capitalize(Text text) {
  text = lower(text);
  if (!text.bytes.empty())
    text.bytes[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text.bytes[0])));
  return text;
}

Value length(const Value& value) {
  if (const List* list = value.list()) return static_cast<int64_t>(list->size());
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->size());
  if (value.get<Text>()) return static_cast<int64_t>(iterate(value).size());
  refuse("this value has no length");
}

Value attribute_path(const Value& value, const Value& path) {
  if (!path.get<Text>()) return subscript(value, path);
  Value current = value;
  const Value dot(Text::markup("."));
  for (const Value& part : split(*path.get<Text>(), &dot, -1)) current = subscript(current, part);
  return current;
}

List sorted(List list, const Arguments& arguments) {
  const Value* reverse = argument(arguments, 0, "reverse");
  const Value* attribute = argument(arguments, 2, "attribute");
  const auto key = [&](const Value& item) {
    return attribute ? attribute_path(item, *attribute) : item;
  };
  std::stable_sort(list.begin(), list.end(),
                   [&](const Value& a, const Value& b) { return less(key(a), key(b)); });
  if (reverse && truthy(*reverse)) std::reverse(list.begin(), list.end());
  return list;
}

Text join(const Value& value, const Arguments& arguments) {
  const Value* separator = argument(arguments, 0, "d");
  const Value* attribute = argument(arguments, 1, "attribute");
  Text result;
  bool first = true;
  for (const Value& item : iterate(value)) {
    if (!first && separator) result += to_text(*separator);
    first = false;
    result += to_text(attribute ? attribute_path(item, *attribute) : item);
  }
  return result;
}

// select, reject, selectattr, rejectattr.
List selected(const std::string& name, const Value& input, Arguments& arguments) {
  const bool keep = name.starts_with("select");
  const bool by_attribute = name.ends_with("attr");
  size_t next = 0;
  Value attribute;
  if (by_attribute) {
    if (arguments.positional.empty()) refuse(name + " needs an attribute");
    attribute = arguments.positional[next++];
  }
  std::string test;
  if (next < arguments.positional.size()) test = text_of(arguments.positional[next++]).bytes;
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<long>(next),
                         arguments.positional.end());
  List result;
  for (const Value& item : iterate(input)) {
    const Value subject = by_attribute ? attribute_path(item, attribute) : item;
    const bool holds = test.empty() ? truthy(subject) : apply_test(test, subject, rest);
    if (holds == keep) result.push_back(item);
  }
  return result;
}

List mapped(const Value& input, Arguments& arguments) {
  List result;
  const Value* attribute = argument(arguments, size_t(-1), "attribute");
  if (!attribute && arguments.positional.empty()) refuse("map needs a filter or an attribute");
  for (const Value& item : iterate(input)) {
    if (attribute) {
      result.push_back(attribute_path(item, *attribute));
    } else {
      Arguments rest;
      rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
      rest.named = arguments.named;
      result.push_back(apply_filter(text_of(arguments.positional[0]).bytes, item, rest));
    }
  }
  return result;
}

Text indented(const Text& text, const Arguments& arguments) {
  const Value* width = argument(arguments, 0, "width");
  const Value* first = argument(arguments, 1, "first");
  const int64_t spaces = width ? integer(*width) : 4;
  if (spaces < 0 || spaces > 1000) refuse("indent width out of range");
  const Text margin = Text::markup(std::string(static_cast<size_t>(spaces), ' '));
  Text result;
  const Value newline(Text::markup("\n"));
  const List lines = split(text, &newline, -1);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) result += Text::markup("\n");
    const Text& line = *lines[i].get<Text>();
    if ((i > 0 || (first && truthy(*first))) && !line.bytes.empty()) result += margin;
    result += line;
  }
  return result;
}

// The number that a text is, or `fallback` where it is none.
Value parse_number(const Text& text, const Value& fallback, bool real) {
  const std::string bytes = strip(text, "", true, true).bytes;
  char* end = nullptr;
  const double value = std::strtod(bytes.c_str(), &end);
  if (bytes.empty() || *end != '\0') return fallback;
  if (real) return value;
  const auto integer = static_cast<int64_t>(std::strtoll(bytes.c_str(), &end, 10));
  return *end == '\0' ? Value(integer) : Value(static_cast<int64_t>(value));
}

Value to_integer(const Value& input, const Arguments& arguments) {
  const Value* fallback = argument(arguments, 0, "default");
  if (const double* number = input.get<double>()) {
    if (!(std::fabs(*number) < 9e18)) refuse("too large an integer");
    return static_cast<int64_t>(*number);
  }
  if (const Text* text = input.get<Text>())
    return parse_number(*text, fallback ? *fallback : Value(int64_t{0}), /*real=*/false);
  return integer(input);
}

Value to_real(const Value& input, const Arguments& arguments) {
  const Value* fallback = argument(arguments, 0, "default");
  if (const double* number = input.get<double>()) return *number;
  if (const Text* text = input.get<Text>())
    return parse_number(*text, fallback ? *fallback : Value(0.0), /*real=*/true);
  return static_cast<double>(integer(input));
}

// To nearest even at `precision` digits, or up or down; always a real number, as in jinja2.
Value rounded(const Value& input, const Arguments& arguments) {
  const Value* digits = argument(arguments, 0, "precision");
  const Value* method = argument(arguments, 1, "method");
  const std::string how = method ? text_of(*method).bytes : "common";
  const double unit = std::pow(10.0, digits ? static_cast<double>(integer(*digits)) : 0);
  const double value = *to_real(input, {}).get<double>() * unit;
  if (how == "common") return std::nearbyint(value) / unit;
  if (how == "ceil") return std::ceil(value) / unit;
  if (how == "floor") return std::floor(value) / unit;
  refuse("no way to round: \"" + how + "\"");
}

Value extreme(const Value& input, bool largest) {
  const List list = iterate(input);
  if (list.empty()) return Undefined{largest ? "max" : "min"};
  // Texts compare without case, as jinja2's filters do by default.
  const auto before = [](const Value& a, const Value& b) {
    if (a.get<Text>() && b.get<Text>())
      return lower(*a.get<Text>()).bytes < lower(*b.get<Text>()).bytes;
    return less(a, b);
  };
  return largest ? *std::max_element(list.begin(), list.end(), before)
                 : *std::min_element(list.begin(), list.end(), before);
}

Value sum(const Value& input) {
  int64_t total = 0;
  double real = 0;
  bool exact = true;
  for (const Value& item : iterate(input)) {
    if (const double* value = item.get<double>()) {
      exact = false;
      real += *value;
    } else {
      real += static_cast<double>(integer(item));
      if (__builtin_add_overflow(total, integer(item), &total)) refuse("too large a sum");
    }
  }
  return exact ? Value(total) : Value(real);
}

List items(const Value& value) {
  const Dict* dict = value.dict();
  if (!dict) refuse("items of something that is no mapping");
  List list;
  for (const auto& [key, item] : *dict) {
    List pair{Value(key), item};
    pair.tuple = true;
    list.push_back(std::move(pair));
  }
  return list;
}

Value text_method(const Text& text, const std::string& name, Arguments& arguments) {
  const Value* first = argument(arguments, 0, "");
  const Value* second = argument(arguments, 1, "");
  const auto affix = [&](bool front) {
    if (!first) refuse(name + " needs an argument");
    for (const Value& option : first->list() ? *first->list() : List{*first}) {
      const std::string& piece = text_of(option).bytes;
      if (front ? text.bytes.starts_with(piece) : text.bytes.ends_with(piece)) return true;
    }
    return false;
  };
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return strip(text, first ? text_of(*first).bytes : "", name != "rstrip", name != "lstrip");
  if (name == "split") return split(text, first, second ? integer(*second) : -1);
  if (name == "startswith") return affix(true);
  if (name == "endswith") return affix(false);
  if (name == "upper") return upper(text);
  if (name == "lower") return lower(text);
  if (name == "title") return title(text);
  if (name == "capitalize") return capitalize(text);
  if (name == "replace") {
    if (!first || !second) refuse("replace needs two arguments");
    const Value* limit = argument(arguments, 2, "count");
    return replace(text, text_of(*first).bytes, text_of(*second), limit ? integer(*limit) : -1);
  }
  if (name == "find") {
    if (!first) refuse("find needs an argument");
    const size_t at = text.bytes.find(text_of(*first).bytes);
    if (at == std::string::npos) return int64_t{-1};
    return static_cast<int64_t>(iterate(text.substr(0, at)).size());
  }
  if (name == "join") {
    if (!first) refuse("join needs an argument");
    Arguments separator;
    separator.positional.push_back(text);
    return join(*first, separator);
  }
  if (name == "count") {
    if (!first || text_of(*first).bytes.empty()) refuse("count needs a text");
    int64_t count = 0;
    const std::string& piece = text_of(*first).bytes;
    for (size_t at = 0; (at = text.bytes.find(piece, at)) != std::string::npos; at += piece.size())
      ++count;
    return count;
  }
  if (name == "removeprefix" || name == "removesuffix") {
    if (!affix(name == "removeprefix")) return text;
    const size_t size = text_of(*first).bytes.size();
    return name == "removeprefix" ? text.substr(size) : text.substr(0, text.bytes.size() - size);
  }
  if (name == "splitlines") {
    const Value newline(Text::markup("\n"));
    List lines = split(text, &newline, -1);
    if (!lines.empty() && lines.back().get<Text>()->bytes.empty()) lines.pop_back();
    return lines;
  }
  if (name == "isdigit")
    return !text.bytes.empty() && std::all_of(text.bytes.begin(), text.bytes.end(), [](char c) {
      return std::isdigit(static_cast<unsigned char>(c));
    });
  refuse("text has no method \"" + name + "\"");
}

Value dict_method(Dict& dict, const std::string& name, Arguments& arguments) {
  if (name == "items") return items(Value(dict));
  if (name == "keys" || name == "values") {
    List list;
    for (const auto& [key, item] : dict) list.push_back(name == "keys" ? Value(key) : item);
    return list;
  }
  if (name == "get") {
    if (arguments.positional.empty()) refuse("get needs a key");
    const Value* found = find(dict, to_text(arguments.positional[0]).bytes);
    if (found) return *found;
    return arguments.positional.size() > 1 ? arguments.positional[1] : Value();
  }
  refuse("a mapping has no method \"" + name + "\"");
}

}  // namespace

List iterate(const Value& value) {
  if (const List* list = value.list()) return *list;
  List result;
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, item] : *dict) result.push_back(key);
    return result;
  }
  if (const Text* text = value.get<Text>()) {
    for (size_t at = 0; at < text->bytes.size();) {
      const size_t size =
          std::max<size_t>(1, character_length(std::string_view(text->bytes).substr(at)));
      result.push_back(text->substr(at, size));
      at += size;
    }
    return result;
  }
  if (value.undefined()) return result;
  refuse("this value cannot be iterated");
}

bool contains(const Value& container, const Value& item) {
  if (const Text* text = container.get<Text>())
    return text->bytes.find(text_of(item).bytes) != std::string::npos;
  if (const Dict* dict = container.dict())
    return item.get<Text>() && find(*dict, item.get<Text>()->bytes);
  const List list = iterate(container);
  return std::any_of(list.begin(), list.end(), [&](const Value& v) { return equal(v, item); });
}

Value subscript(const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    const Value* found = find(*dict, to_text(key).bytes);
    if (found) return *found;
    return Undefined{to_text(key).bytes};
  }
  if ((object.list() || object.get<Text>()) && key.get<int64_t>()) {
    const List list = iterate(object);
    int64_t index = *key.get<int64_t>();
    if (index < 0) index += static_cast<int64_t>(list.size());
    if (index >= 0 && index < static_cast<int64_t>(list.size()))
      return list[static_cast<size_t>(index)];
  }
  if (object.undefined()) refuse("\"" + object.get<Undefined>()->name + "\" is undefined");
  return Undefined{to_text(key).bytes};
}

Value slice(const Value& object, const Value& from, const Value& to, const Value& step_value) {
  const int64_t step = step_value.none() ? 1 : integer(step_value);
  if (step == 0) refuse("a slice of step 0");
  const List list = iterate(object);
  const auto size = static_cast<int64_t>(list.size());
  const auto bound = [&](const Value& value, int64_t fallback) {
    if (value.none()) return fallback;
    int64_t index = integer(value);
    if (index < 0) index += size;
    return std::clamp<int64_t>(index, step > 0 ? 0 : -1, step > 0 ? size : size - 1);
  };
  const int64_t begin = bound(from, step > 0 ? 0 : size - 1);
  const int64_t end = bound(to, step > 0 ? size : -1);
  List result;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
    result.push_back(list[static_cast<size_t>(i)]);
  if (!object.get<Text>()) return result;
  Text text;
  for (const Value& character : result) text += *character.get<Text>();
  return text;
}

Value call_method(const Value& object, const std::string& name, Arguments& arguments) {
  if (const Text* text = object.get<Text>()) return text_method(*text, name, arguments);
  if (Dict* dict = object.dict()) return dict_method(*dict, name, arguments);
  if (const List* list = object.list()) {
    if (name == "index" && arguments.positional.size() == 1) {
      for (size_t i = 0; i < list->size(); ++i)
        if (equal((*list)[i], arguments.positional[0])) return static_cast<int64_t>(i);
      refuse("index of something that is not in the list");
    }
  }
  refuse("no method \"" + name + "\"");
}

Value apply_filter(const std::string& name, const Value& input, Arguments& arguments) {
  const Value* first = argument(arguments, 0, "");
  if (name == "trim") return strip(to_text(input), first ? text_of(*first).bytes : "", true, true);
  if (name == "tojson") {
    const Value* indent = argument(arguments, 0, "indent");
    const Value* sort_keys = argument(arguments, 1, "sort_keys");
    return dump_json(input, indent && !indent->none() ? static_cast<int>(integer(*indent)) : -1,
                     sort_keys && truthy(*sort_keys));
  }
  if (name == "length" || name == "count") return length(input);
  if (name == "default" || name == "d") {
    const Value* fallback = argument(arguments, 0, "default_value");
    const Value* falsy = argument(arguments, 1, "boolean");
    const bool replace_it = input.undefined() || (falsy && truthy(*falsy) && !truthy(input));
    return replace_it ? (fallback ? *fallback : Value(Text{})) : input;
  }
  if (name == "join") return join(input, arguments);
  if (name == "upper") return upper(to_text(input));
  if (name == "lower") return lower(to_text(input));
  if (name == "title") return title(to_text(input));
  if (name == "capitalize") return capitalize(to_text(input));
  if (name == "replace") return text_method(to_text(input), "replace", arguments);
  if (name == "indent") return indented(to_text(input), arguments);
  if (name == "string") return to_text(input);
  if (name == "safe") return input;
  if (name == "list") return iterate(input);
  if (name == "items") return items(input);
  if (name == "int") return to_integer(input, arguments);
  if (name == "float") return to_real(input, arguments);
  if (name == "round") return rounded(input, arguments);
  if (name == "sum") return sum(input);
  if (name == "min" || name == "max") return extreme(input, name == "max");
  if (name == "abs") {
    if (const double* real = input.get<double>()) return std::fabs(*real);
    return std::abs(integer(input));
  }
  if (name == "first" || name == "last") {
    const List list = iterate(input);
    if (list.empty()) return Undefined{name};
    return name == "first" ? list.front() : list.back();
  }
  if (name == "reverse") {
    List list = iterate(input);
    std::reverse(list.begin(), list.end());
    if (!input.get<Text>()) return list;
    Text text;
    for (const Value& character : list) text += *character.get<Text>();
    return text;
  }
  if (name == "sort") return sorted(iterate(input), arguments);
  if (name == "dictsort") return sorted(items(input), {});
  if (name == "unique") {
    List list;
    for (const Value& item : iterate(input))
      if (!contains(list, item)) list.push_back(item);
    return list;
  }
  if (name == "map") return mapped(input, arguments);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return selected(name, input, arguments);
  refuse("unknown filter \"" + name + "\"");
}

bool apply_test(const std::string& name, const Value& input, Arguments& arguments) {
  const auto operand = [&]() -> const Value& {
    if (arguments.positional.empty()) refuse("test \"" + name + "\" needs an argument");
    return arguments.positional[0];
  };
  if (name == "defined") return !input.undefined();
  if (name == "undefined") return input.undefined();
  if (name == "none") return input.none();
  if (name == "string") return input.get<Text>();
  if (name == "mapping") return input.dict();
  if (name == "sequence" || name == "iterable")
    return input.list() || input.dict() || input.get<Text>();
  if (name == "boolean") return input.get<bool>();
  if (name == "integer") return input.get<int64_t>();
  if (name == "float") return input.get<double>();
  if (name == "number") return input.get<int64_t>() || input.get<double>() || input.get<bool>();
  if (name == "true") return input.get<bool>() && *input.get<bool>();
  if (name == "false") return input.get<bool>() && !*input.get<bool>();
  if (name == "odd") return integer(input) % 2 != 0;
  if (name == "even") return integer(input) % 2 == 0;
  if (name == "divisibleby") {
    if (integer(operand()) == 0) refuse("divisible by zero");
    return integer(input) % integer(operand()) == 0;
  }
  if (name == "gt" || name == "greaterthan") return less(operand(), input);
  if (name == "lt" || name == "lessthan") return less(input, operand());
  if (name == "ge") return !less(input, operand());
  if (name == "le") return !less(operand(), input);
  if (name == "lower" || name == "upper") {
    const Text text = to_text(input);
    const std::string changed = (name == "lower" ? lower(text) : upper(text)).bytes;
    const std::string other = (name == "lower" ? upper(text) : lower(text)).bytes;
    return text.bytes == changed && text.bytes != other;
  }
  if (name == "callable") return std::holds_alternative<std::shared_ptr<Function>>(input.data);
  if (name == "equalto" || name == "eq" || name == "sameas") return equal(input, operand());
  if (name == "ne") return !equal(input, operand());
  if (name == "in") return contains(operand(), input);
  refuse("unknown test \"" + name + "\"");
}

}  // namespace narrow::text::jinja
