// JSON and YAML as one document type. Parsing is bounded: depth, size, no duplicate keys unless
// they are asked for; what breaks a bound is an Error that names file and position. YAML becomes
// the same document, so nothing above this header knows which of the two a file was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace narrow {

// Keys keep the order of the file (nlohmann::ordered_json): prompts and reports depend on it.
using Json = nlohmann::ordered_json;

// The same with keys sorted and found in logarithmic time: for objects of many thousand keys, such
// as the vocabulary of a tokenizer, where the ordered kind takes quadratic time.
using SortedJson = nlohmann::json;

struct JsonLimits {
  int64_t bytes = int64_t{1} << 28;
  int depth = 64;
  // Of a YAML file only: a key may stand twice in a mapping and counts as it stands last, which is
  // what PyYAML makes of such a file.
  bool duplicate_keys = false;
};

// `where` names the source in messages. Throws Error::refused.
Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});
SortedJson parse_sorted_json(std::string_view text, const std::string& where,
                             const JsonLimits& limits = {});
Json parse_yaml(std::string_view text, const std::string& where, const JsonLimits& limits = {});

Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});
Json read_yaml(const std::filesystem::path& path, const JsonLimits& limits = {});

// Calls `row` for each non-empty line of a .jsonl or .jsonl.gz file; `row` gets the document and
// the line number, from 1.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(Json&&, int64_t)>& row);

// Typed access with an Error that names the field, instead of nlohmann's exceptions. The overload
// with a fallback answers it when the key is absent or null.
template <class T, class Document>
T json_get(const Document& object, const char* key, const std::string& where) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end()) throw Error::refused(std::string("missing \"") + key + "\"", where);
  try {
    return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    throw Error::refused(std::string("\"") + key + "\" has the wrong type", where);
  }
}
template <class T, class Document>
T json_get(const Document& object, const char* key, const std::string& where, T fallback) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end() || found->is_null()) return fallback;
  return json_get<T>(object, key, where);
}

// One line, UTF-8 kept, invalid bytes replaced by U+FFFD: what goes into .jsonl files and stores.
std::string to_line(const Json& document);

}  // namespace narrow
