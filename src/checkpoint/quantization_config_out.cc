#include <algorithm>
#include <cctype>

#include "checkpoint/writer.h"

namespace narrow::checkpoint {
namespace {

// The release whose layout of the object and of the tensors is followed.
constexpr const char* kSchemaVersion = "0.19.0";

std::string strategy_name(QuantArgs::Strategy strategy) {
  switch (strategy) {
    case QuantArgs::Strategy::tensor:
      return "tensor";
    case QuantArgs::Strategy::channel:
      return "channel";
    case QuantArgs::Strategy::group:
      return "group";
    case QuantArgs::Strategy::token:
      return "token";
  }
  return {};
}

// Written for groups only: given for per-channel schemes it made vLLM refuse a checkpoint.
Json actorder(const QuantArgs& args) {
  if (args.strategy != QuantArgs::Strategy::group) return nullptr;
  switch (args.actorder) {
    case QuantArgs::ActOrder::none:
      return nullptr;
    case QuantArgs::ActOrder::weight:
      return "static";
    case QuantArgs::ActOrder::group:
      return "group";
  }
  return nullptr;
}

Json to_json(const QuantArgs& args) {
  return {{"actorder", actorder(args)},
          {"block_structure", nullptr},
          {"dynamic", args.dynamic},
          {"group_size", args.group_size > 0 ? Json(args.group_size) : Json(nullptr)},
          {"num_bits", args.bits},
          {"observer", args.dynamic ? Json(nullptr) : Json(args.observer)},
          {"observer_kwargs", Json::object()},
          {"scale_dtype", nullptr},
          {"strategy", strategy_name(args.strategy)},
          {"symmetric", args.symmetric},
          {"type", args.type == QuantArgs::Type::integer ? "int" : "float"},
          {"zp_dtype", args.symmetric ? Json(nullptr) : Json("torch.int8")}};
}

std::string format_of(const Scheme& scheme) {
  if (scheme.weights->type == QuantArgs::Type::floating) return "float-quantized";
  return scheme.weights->bits == 8 && scheme.inputs ? "int-quantized" : "pack-quantized";
}

// layers.2 before layers.10.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t end_a = i, end_b = j;
      while (end_a < a.size() && digit(a[end_a])) ++end_a;
      while (end_b < b.size() && digit(b[end_b])) ++end_b;
      const std::string left = a.substr(i, end_a - i), right = b.substr(j, end_b - j);
      if (left != right) return std::pair(left.size(), left) < std::pair(right.size(), right);
      i = end_a;
      j = end_b;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

}  // namespace

Json quantization_config(const std::map<std::string, Scheme>& schemes) {
  std::vector<std::pair<Scheme, std::vector<std::string>>> groups;
  std::vector<std::string> ignore;
  for (const auto& [module, scheme] : schemes) {
    if (scheme.dense()) {
      if (module != "lm_head") ignore.push_back(module);
      continue;
    }
    const auto same =
        std::find_if(groups.begin(), groups.end(),
                     [&wanted = scheme](const auto& group) { return group.first == wanted; });
    if (same == groups.end()) {
      groups.push_back({scheme, {module}});
    } else {
      same->second.push_back(module);
    }
  }
  if (groups.empty()) return Json::object();

  std::sort(ignore.begin(), ignore.end(), natural_less);
  // The output matrix is a Linear to loaders even where it is tied and has no tensor of its own.
  const auto head = schemes.find("lm_head");
  if (head == schemes.end() || head->second.dense()) ignore.push_back("lm_head");
  Json config_groups;
  std::string format = format_of(groups[0].first);
  for (size_t i = 0; i < groups.size(); ++i) {
    auto& [scheme, modules] = groups[i];
    if (format_of(scheme) != format) format = "mixed-precision";
    std::sort(modules.begin(), modules.end(), natural_less);
    const Json targets = groups.size() == 1 ? Json::array({"Linear"}) : Json(modules);
    config_groups["group_" + std::to_string(i)] = {
        {"format", format_of(scheme)},
        {"input_activations", scheme.inputs ? to_json(*scheme.inputs) : Json(nullptr)},
        {"output_activations", nullptr},
        {"targets", targets},
        {"weights", to_json(*scheme.weights)}};
  }
  return {{"config_groups", config_groups},      {"format", format},
          {"global_compression_ratio", nullptr}, {"ignore", ignore},
          {"kv_cache_scheme", nullptr},          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"}, {"sparsity_config", Json::object()},
          {"transform_config", Json::object()},  {"version", kSchemaVersion}};
}

}  // namespace narrow::checkpoint
