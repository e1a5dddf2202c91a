#include "text/template_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace narrow::text::jinja {
namespace {

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

// Python's repr of a text: single quotes unless it holds one and no double quote.
Text quoted(const Text& text) {
  const bool has_single = text.bytes.find('\'') != std::string::npos;
  const bool has_double = text.bytes.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  Text result = Text::markup(std::string(1, quote));
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    const char c = text.bytes[i];
    std::string out(1, c);
    if (c == '\\' || c == quote) {
      out = std::string("\\") + c;
    } else if (c == '\n') {
      out = "\\n";
    } else if (c == '\r') {
      out = "\\r";
    } else if (c == '\t') {
      out = "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out = fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    result += Text::make(out, text.marks[i]);
  }
  return result += Text::markup(std::string(1, quote));
}

Text repr(const Value& value) {
  if (const Text* text = value.get<Text>()) return quoted(*text);
  return to_text(value);
}

// Bytes of a JSON string literal, marks kept.
Text json_string(const Text& text) {
  Text result = Text::markup("\"");
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    const char c = text.bytes[i];
    std::string out(1, c);
    switch (c) {
      case '"':
        out = "\\\"";
        break;
      case '\\':
        out = "\\\\";
        break;
      case '\n':
        out = "\\n";
        break;
      case '\r':
        out = "\\r";
        break;
      case '\t':
        out = "\\t";
        break;
      case '\b':
        out = "\\b";
        break;
      case '\f':
        out = "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out = fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    }
    result += Text::make(out, text.marks[i]);
  }
  return result += Text::markup("\"");
}

Text dump(const Value& value, int indent, int depth, bool sort_keys) {
  const auto line = [&](int d) {
    return Text::markup(indent < 0 ? "" : "\n" + std::string(static_cast<size_t>(indent * d), ' '));
  };
  const char* comma = indent < 0 ? ", " : ",";
  if (const List* list = value.list()) {
    if (list->empty()) return Text::markup("[]");
    Text result = Text::markup("[");
    for (size_t i = 0; i < list->size(); ++i) {
      if (i) result += Text::markup(comma);
      result += line(depth + 1);
      result += dump((*list)[i], indent, depth + 1, sort_keys);
    }
    result += line(depth);
    return result += Text::markup("]");
  }
  if (const Dict* dict = value.dict()) {
    if (dict->empty()) return Text::markup("{}");
    Dict entries = *dict;
    if (sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return a.first.bytes < b.first.bytes; });
    Text result = Text::markup("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i) result += Text::markup(comma);
      result += line(depth + 1);
      result += json_string(entries[i].first);
      result += Text::markup(": ");
      result += dump(entries[i].second, indent, depth + 1, sort_keys);
    }
    result += line(depth);
    return result += Text::markup("}");
  }
  if (const Text* text = value.get<Text>()) return json_string(*text);
  if (value.none()) return Text::markup("null");
  if (const bool* flag = value.get<bool>()) return Text::markup(*flag ? "true" : "false");
  if (value.get<int64_t>() || value.get<double>()) return to_text(value);
  throw Error::refused("this value cannot be written as JSON", "template");
}

bool number(const Value& value, double& out) {
  if (const bool* flag = value.get<bool>()) return out = *flag, true;
  if (const int64_t* integer = value.get<int64_t>())
    return out = static_cast<double>(*integer), true;
  if (const double* real = value.get<double>()) return out = *real, true;
  return false;
}

}  // namespace

Value from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return json.get<int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return Text::data(json.get<std::string>());
    case Json::value_t::array: {
      List list;
      for (const Json& item : json) list.push_back(from_json(item));
      return list;
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items())
        dict.emplace_back(Text::data(key), from_json(item));
      return dict;
    }
    default:
      return {};
  }
}

Json to_json(const Value& value) {
  if (const bool* flag = value.get<bool>()) return *flag;
  if (const int64_t* integer = value.get<int64_t>()) return *integer;
  if (const double* real = value.get<double>()) return *real;
  if (const Text* text = value.get<Text>()) return text->bytes;
  if (const List* list = value.list()) {
    Json array = Json::array();
    for (const Value& item : *list) array.push_back(to_json(item));
    return array;
  }
  if (const Dict* dict = value.dict()) {
    Json object = Json::object();
    for (const auto& [key, item] : *dict) object[key.bytes] = to_json(item);
    return object;
  }
  return nullptr;
}

bool truthy(const Value& value) {
  double amount;
  if (number(value, amount)) return amount != 0;
  if (const Text* text = value.get<Text>()) return !text->bytes.empty();
  if (const List* list = value.list()) return !list->empty();
  if (const Dict* dict = value.dict()) return !dict->empty();
  return !value.undefined() && !value.none();
}

bool equal(const Value& a, const Value& b) {
  double x, y;
  if (number(a, x) && number(b, y)) return x == y;
  if (a.get<Text>() && b.get<Text>()) return a.get<Text>()->bytes == b.get<Text>()->bytes;
  if (a.list() && b.list())
    return std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(),
                      equal);
  if (a.dict() && b.dict()) {
    if (a.dict()->size() != b.dict()->size()) return false;
    for (const auto& [key, item] : *a.dict()) {
      const Value* other = find(*b.dict(), key.bytes);
      if (!other || !equal(item, *other)) return false;
    }
    return true;
  }
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

bool less(const Value& a, const Value& b) {
  if (a.list() && b.list())
    return std::lexicographical_compare(a.list()->begin(), a.list()->end(), b.list()->begin(),
                                        b.list()->end(), less);
  double x, y;
  if (number(a, x) && number(b, y)) return x < y;
  if (a.get<Text>() && b.get<Text>()) return a.get<Text>()->bytes < b.get<Text>()->bytes;
  throw Error::refused("values of these types have no order", "template");
}

Text to_text(const Value& value) {
  if (const Text* text = value.get<Text>()) return *text;
  if (value.undefined()) return {};
  if (value.none()) return Text::markup("None");
  if (const bool* flag = value.get<bool>()) return Text::markup(*flag ? "True" : "False");
  if (const int64_t* integer = value.get<int64_t>()) return Text::markup(std::to_string(*integer));
  if (const double* real = value.get<double>()) return Text::markup(number_text(*real));
  Text result;
  if (const List* list = value.list()) {
    result = Text::markup(list->tuple ? "(" : "[");
    for (size_t i = 0; i < list->size(); ++i) {
      if (i) result += Text::markup(", ");
      result += repr((*list)[i]);
    }
    if (list->tuple && list->size() == 1) result += Text::markup(",");
    return result += Text::markup(list->tuple ? ")" : "]");
  }
  if (const Dict* dict = value.dict()) {
    result = Text::markup("{");
    for (size_t i = 0; i < dict->size(); ++i) {
      if (i) result += Text::markup(", ");
      result += quoted((*dict)[i].first);
      result += Text::markup(": ");
      result += repr((*dict)[i].second);
    }
    return result += Text::markup("}");
  }
  return Text::markup("<function>");
}

Text dump_json(const Value& value, int indent, bool sort_keys) {
  return dump(value, indent, 0, sort_keys);
}

const Value* find(const Dict& dict, const std::string& key) {
  for (const auto& [name, item] : dict)
    if (name.bytes == key) return &item;
  return nullptr;
}

}  // namespace narrow::text::jinja
