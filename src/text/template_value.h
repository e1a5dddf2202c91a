// Values of the template language. Text carries, byte by byte, whether it came from data: what a
// user wrote keeps that mark through every operation. Values are shared, never cyclic.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace narrow::text::jinja {

// Text with a parallel string of marks: kData for bytes that came from data, kMarkup otherwise.
struct Text {
  static constexpr char kMarkup = 0, kData = 1;
  std::string bytes;
  std::string marks;

  static Text markup(std::string s) { return make(std::move(s), kMarkup); }
  static Text data(std::string s) { return make(std::move(s), kData); }
  static Text make(std::string s, char mark) {
    Text text;
    text.marks.assign(s.size(), mark);
    text.bytes = std::move(s);
    return text;
  }
  Text substr(size_t begin, size_t count = std::string::npos) const {
    return {bytes.substr(begin, count), marks.substr(begin, count)};
  }
  Text& operator+=(const Text& other) {
    bytes += other.bytes;
    marks += other.marks;
    return *this;
  }
};

struct Value;
// A list or, for printing only, a tuple.
struct List : std::vector<Value> {
  using vector::vector;
  bool tuple = false;
};
using Dict = std::vector<std::pair<Text, Value>>;  // in order of insertion
// Positional and named arguments.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};
using Function = std::function<Value(Arguments&)>;

struct Undefined {
  std::string name;
};
struct None {};

struct Value {
  std::variant<Undefined, None, bool, int64_t, double, Text, std::shared_ptr<List>,
               std::shared_ptr<Dict>, std::shared_ptr<Function>>
      data;

  Value() : data(None{}) {}
  Value(Undefined v) : data(std::move(v)) {}
  Value(bool v) : data(v) {}
  Value(int64_t v) : data(v) {}
  Value(double v) : data(v) {}
  Value(Text v) : data(std::move(v)) {}
  Value(List v) : data(std::make_shared<List>(std::move(v))) {}
  Value(Dict v) : data(std::make_shared<Dict>(std::move(v))) {}
  Value(Function v) : data(std::make_shared<Function>(std::move(v))) {}

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  const List* list() const {
    const auto* p = std::get_if<std::shared_ptr<List>>(&data);
    return p ? p->get() : nullptr;
  }
  Dict* dict() const {
    const auto* p = std::get_if<std::shared_ptr<Dict>>(&data);
    return p ? p->get() : nullptr;
  }
  bool undefined() const { return get<Undefined>() != nullptr; }
  bool none() const { return get<None>() != nullptr; }
};

Value from_json(const Json& json);  // its texts are data
Json to_json(const Value& value);

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
// Python's order on numbers and on texts; throws Error::refused for other pairs.
bool less(const Value& a, const Value& b);
// As Python prints it: "None", "True", "[1, 'a']"; texts bare.
Text to_text(const Value& value);
// As Hugging Face's tojson prints it: json.dumps(ensure_ascii=False), indent < 0: one line.
Text dump_json(const Value& value, int indent = -1, bool sort_keys = false);

const Value* find(const Dict& dict, const std::string& key);

}  // namespace narrow::text::jinja
