#include "quantize/recipe.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "base/data_files.h"
#include "base/error.h"
#include "tensor/scheme.h"

namespace narrow::quantize {
namespace {

const std::map<std::string, Recipe::Method> kMethods = {{"none", Recipe::Method::none},
                                                        {"round", Recipe::Method::round},
                                                        {"gptq", Recipe::Method::gptq},
                                                        {"awq", Recipe::Method::awq}};

template <class T>
void read(const Json& document, const char* key, const std::string& where, T& value, T low,
          T high) {
  value = json_get<T>(document, key, where, value);
  if (!(value >= low && value <= high)) {
    throw Error::refused(
        fmt::format("\"{}\" is {}, it must be within {} … {}", key, value, low, high), where);
  }
}

}  // namespace

Recipe parse_recipe(const Json& document, const std::string& where) {
  static const std::set<std::string> known = {
      "name",    "format",           "method",    "group_size",     "max_shrink",
      "damping", "activation_order", "smoothing", "search_samples", "calibration"};
  if (!document.is_object()) throw Error::refused("expected a mapping", where);
  for (const auto& [key, value] : document.items())
    if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where);
  Recipe recipe;
  recipe.name = json_get<std::string>(document, "name", where);
  recipe.format = json_get<std::string>(document, "format", where);
  scheme_of_format(recipe.format);
  const auto method = json_get<std::string>(document, "method", where);
  const auto found = kMethods.find(method);
  if (found == kMethods.end())
    throw Error::refused("unknown method \"" + method + "\"", where,
                         "there are: none, round, gptq, awq");
  recipe.method = found->second;
  if ((recipe.method == Recipe::Method::none) != (recipe.format == "bf16"))
    throw Error::refused("method \"none\" belongs to format bf16 and to no other", where);
  read<int64_t>(document, "group_size", where, recipe.group_size, 16, 1024);
  read<double>(document, "max_shrink", where, recipe.max_shrink, 0, 0.95);
  read<double>(document, "damping", where, recipe.damping, 0, 10);
  recipe.activation_order = json_get<bool>(document, "activation_order", where, true);
  if (document.contains("smoothing")) {
    double strength = 0.5;
    read<double>(document, "smoothing", where, strength, 0, 1);
    recipe.smoothing = strength;
  }
  read<int64_t>(document, "search_samples", where, recipe.search_samples, 1, 100000);
  const Json calibration = document.value("calibration", Json::object());
  for (const auto& [key, value] : calibration.items())
    if (key != "samples" && key != "length" && key != "text")
      throw Error::refused("unknown field \"" + key + "\"", where + ", calibration");
  read<int64_t>(calibration, "samples", where, recipe.samples, 1, 100000);
  read<int64_t>(calibration, "length", where, recipe.length, 16, 131072);
  recipe.calibration = json_get<std::string>(calibration, "text", where, "");
  return recipe;
}

Recipe load_recipe(const std::string& name_or_path) {
  const auto path = find_data_file("recipes", name_or_path);
  return parse_recipe(read_yaml(path), path.string());
}

Json Recipe::to_json() const {
  Json json{{"name", name}, {"format", format}};
  for (const auto& [text, value] : kMethods)
    if (value == method) json["method"] = text;
  if (format.starts_with("w4")) json["group_size"] = group_size;
  if (max_shrink > 0) json["max_shrink"] = max_shrink;
  if (method == Method::gptq) {
    json["damping"] = damping;
    json["activation_order"] = activation_order;
  }
  if (smoothing) json["smoothing"] = *smoothing;
  if (method == Method::awq) json["search_samples"] = search_samples;
  if (needs_calibration())
    json["calibration"] = {{"samples", samples}, {"length", length}, {"text", calibration}};
  return json;
}

}  // namespace narrow::quantize
