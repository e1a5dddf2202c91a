#include "evaluate/code_documents.h"

#include "base/error.h"
#include "base/file.h"

namespace narrow::evaluate {
namespace {

bool is_input(std::string_view key) { return key == "base_input" || key == "plus_input"; }

// Cuts the top level of one object; what a value is made of is left to who reads it.
class Cutter {
 public:
  Cutter(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Json cut() {
    Json row = Json::object();
    expect('{');
    skip_blanks();
    if (peek() == '}') {
      ++at_;
    } else {
      do {
        skip_blanks();
        const std::string key = parse_json(string(), where_).get<std::string>();
        expect(':');
        skip_blanks();
        const std::string_view raw = value();
        if (row.contains(key)) refuse("\"" + key + "\" is there twice");
        row[key] = is_input(key) ? Json(std::string(raw)) : parse_json(raw, where_);
        skip_blanks();
      } while (next() == ',');
      --at_;
      expect('}');
    }
    skip_blanks();
    if (at_ != text_.size()) refuse("more behind the object");
    return row;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error::refused(what, where_ + ", byte " + std::to_string(at_));
  }
  char peek() const {
    if (at_ >= text_.size()) refuse("the object does not end");
    return text_[at_];
  }
  char next() {
    const char c = peek();
    ++at_;
    return c;
  }
  void skip_blanks() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }
  void expect(char c) {
    skip_blanks();
    if (peek() != c) refuse(std::string("expected '") + c + "'");
    ++at_;
  }
  std::string_view string() {
    const size_t begin = at_;
    if (next() != '"') refuse("expected a string");
    for (char c; (c = next()) != '"';)
      if (c == '\\') next();
    return text_.substr(begin, at_ - begin);
  }
  // To the comma or brace that ends it.
  std::string_view value() {
    const size_t begin = at_;
    int64_t depth = 0;
    for (;;) {
      const char c = peek();
      if (c == '"') {
        string();
        continue;
      }
      if (depth == 0 && (c == ',' || c == '}')) break;
      if (c == '[' || c == '{') ++depth;
      if ((c == ']' || c == '}') && --depth < 0) refuse("a bracket too many");
      ++at_;
    }
    if (at_ == begin) refuse("expected a value");
    return text_.substr(begin, at_ - begin);
  }

  const std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

}  // namespace

Json parse_code_document(std::string_view line, const std::string& where) {
  return Cutter(line, where).cut();
}

std::vector<Json> read_code_documents(const std::filesystem::path& path) {
  std::vector<Json> documents;
  const std::string text = read_text_maybe_gz(path);
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++line;
    if (end > begin)
      documents.push_back(parse_code_document(std::string_view(text).substr(begin, end - begin),
                                              path.string() + ":" + std::to_string(line)));
    begin = end + 1;
  }
  return documents;
}

}  // namespace narrow::evaluate
