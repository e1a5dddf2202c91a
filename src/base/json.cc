#include "base/json.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/yaml_scalar.h"

namespace narrow {
namespace {

// Watches depth and duplicate keys while nlohmann builds the document.
class Guard {
 public:
  Guard(const std::string& where, const JsonLimits& limits) : where_(where), limits_(limits) {}

  template <class Event, class Document>
  bool operator()(int depth, Event event, Document& parsed) {
    if (depth > limits_.depth)
      throw Error::refused("nested deeper than " + std::to_string(limits_.depth), where_);
    if (event == Event::object_start) {
      keys_.emplace_back();
    } else if (event == Event::object_end) {
      keys_.pop_back();
    } else if (event == Event::key &&
               !keys_.back().insert(parsed.template get<std::string>()).second) {
      throw Error::refused("duplicate key \"" + parsed.template get<std::string>() + "\"", where_);
    }
    return true;
  }

 private:
  const std::string& where_;
  const JsonLimits& limits_;
  std::vector<std::set<std::string>> keys_;
};

template <class Document>
Document parse(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.bytes)
    throw Error::refused("JSON text above " + std::to_string(limits.bytes) + " bytes", where);
  Guard guard(where, limits);
  try {
    return Document::parse(text, [&](int depth, typename Document::parse_event_t event,
                                     Document& parsed) { return guard(depth, event, parsed); });
  } catch (const nlohmann::json::exception& error) {
    throw Error::refused(std::string("not valid JSON: ") + error.what(), where);
  }
}

// Counts nodes so that YAML aliases cannot unfold into a bomb. `text`: the source.
Json from_yaml(const YAML::Node& node, std::string_view text, const std::string& where,
               const JsonLimits& limits, int depth, int64_t& nodes) {
  // The largest files people write have some thousand; a sanitizer's build takes 7 us for one.
  constexpr int64_t kMaxNodes = 100'000;
  if (depth > limits.depth)
    throw Error::refused("nested deeper than " + std::to_string(limits.depth), where);
  if (++nodes > kMaxNodes) throw Error::refused("more than 100,000 YAML nodes", where);
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return nullptr;
    case YAML::NodeType::Sequence: {
      Json array = Json::array();
      for (const YAML::Node& item : node)
        array.push_back(from_yaml(item, text, where, limits, depth + 1, nodes));
      return array;
    }
    case YAML::NodeType::Map: {
      Json object = Json::object();
      for (const auto& entry : node) {
        const auto key = entry.first.as<std::string>();
        if (object.contains(key) && !limits.duplicate_keys)
          throw Error::refused("duplicate key \"" + key + "\"", where);
        object[key] = from_yaml(entry.second, text, where, limits, depth + 1, nodes);
      }
      return object;
    }
    case YAML::NodeType::Scalar:
      break;
  }
  // "!" is the tag of a quoted scalar: always text.
  if (node.Tag() == "!") {
    const auto at = static_cast<size_t>(std::max(0, node.Mark().pos));
    return quoted_scalar(text, at).value_or(node.Scalar());
  }
  if (node.Tag() == "tag:yaml.org,2002:str") return node.Scalar();
  if (node.Tag() == "tag:yaml.org,2002:null") return nullptr;
  bool flag;
  int64_t integer;
  double real;
  if (YAML::convert<bool>::decode(node, flag)) return flag;
  if (YAML::convert<int64_t>::decode(node, integer)) return integer;
  if (YAML::convert<double>::decode(node, real)) return real;
  return node.Scalar();
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  return parse<Json>(text, where, limits);
}

SortedJson parse_sorted_json(std::string_view text, const std::string& where,
                             const JsonLimits& limits) {
  return parse<SortedJson>(text, where, limits);
}

Json parse_yaml(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.bytes)
    throw Error::refused("YAML text above " + std::to_string(limits.bytes) + " bytes", where);
  // yaml-cpp would put other characters for broken ones, and its places would be no longer ours.
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  try {
    (void)Json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error::refused("not valid UTF-8", where);
  }
  try {
    int64_t nodes = 0;
    return from_yaml(YAML::Load(std::string(text)), text, where, limits, 0, nodes);
  } catch (const YAML::Exception& error) {
    throw Error::refused(std::string("not valid YAML: ") + error.what(), where);
  }
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_text(path, limits.bytes), path.string(), limits);
}

Json read_yaml(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_yaml(read_text(path, limits.bytes), path.string(), limits);
}

void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(Json&&, int64_t)>& row) {
  const std::string text = read_text_maybe_gz(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    ++number;
    const std::string_view line(text.data() + begin, end - begin);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos)
      row(parse_json(line, path.string() + ":" + std::to_string(number)), number);
    begin = end + 1;
  }
}

std::string to_line(const Json& document) {
  return document.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace narrow
