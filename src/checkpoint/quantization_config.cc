#include "checkpoint/quantization_config.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <optional>

#include "base/log.h"

namespace narrow::checkpoint {
namespace {

constexpr size_t kMaxTargets = 65536;
constexpr size_t kMaxPatternBytes = 4096;
// Matching a module name of some 40 characters against a published pattern takes below 1000 steps.
constexpr uint32_t kMaxMatchSteps = 100'000;

// An entry of `targets` or `ignore`.
class Target {
 public:
  enum class Kind { name, pattern, all_linears };

  Target(const std::string& text, const std::string& where) : text_(text), where_(where) {
    if (text == "Linear") {
      kind_ = Kind::all_linears;
    } else if (text.starts_with("re:")) {
      kind_ = Kind::pattern;
      compile(text.substr(3));
    }
  }

  Kind kind() const { return kind_; }

  bool matches(const std::string& module) const {
    switch (kind_) {
      case Kind::all_linears:
        return true;
      case Kind::name:
        return text_ == module;
      case Kind::pattern:
        return pattern_matches(module);
    }
    return false;
  }

 private:
  void compile(const std::string& pattern) {
    if (pattern.size() > kMaxPatternBytes) throw Error::refused("pattern above 4096 bytes", where_);
    int code = 0;
    PCRE2_SIZE at = 0;
    // Anchored at the start only, like Python's re.match.
    pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                         pattern.size(), PCRE2_ANCHORED, &code, &at, nullptr);
    if (!compiled)
      throw Error::refused("bad regular expression \"" + pattern.substr(0, 80) + "\"", where_);
    compiled_ = {compiled, pcre2_code_free};
  }

  bool pattern_matches(const std::string& module) const {
    const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
        pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
    const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> limits(
        pcre2_match_context_create(nullptr), pcre2_match_context_free);
    pcre2_set_match_limit(limits.get(), kMaxMatchSteps);
    pcre2_set_depth_limit(limits.get(), kMaxMatchSteps);
    const int status = pcre2_match(compiled_.get(), reinterpret_cast<PCRE2_SPTR>(module.data()),
                                   module.size(), 0, 0, match.get(), limits.get());
    if (status < 0 && status != PCRE2_ERROR_NOMATCH)
      throw Error::refused("regular expression \"" + text_.substr(0, 80) + "\" takes too long",
                           where_);
    return status >= 0;
  }

  std::string text_, where_;
  Kind kind_ = Kind::name;
  std::shared_ptr<pcre2_code> compiled_;
};

std::vector<Target> parse_targets(const Json& list, const std::string& where) {
  std::vector<Target> targets;
  if (list.is_null()) return targets;
  if (!list.is_array() || list.size() > kMaxTargets)
    throw Error::refused("not a list of at most 65536 names", where);
  for (const Json& item : list) {
    if (!item.is_string()) throw Error::refused("not a list of names", where);
    targets.emplace_back(item.get<std::string>(), where);
  }
  return targets;
}

bool given(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null() && !(found->is_object() && found->empty()) &&
         !(found->is_array() && found->empty());
}

QuantArgs::ActOrder parse_actorder(const Json& args, const std::string& where) {
  if (!given(args, "actorder")) return QuantArgs::ActOrder::none;
  const Json& value = args["actorder"];
  if (value.is_boolean())
    return value.get<bool>() ? QuantArgs::ActOrder::group : QuantArgs::ActOrder::none;
  const auto text = value.is_string() ? value.get<std::string>() : std::string();
  if (text == "group" || text == "dynamic") return QuantArgs::ActOrder::group;
  if (text == "weight" || text == "static") return QuantArgs::ActOrder::weight;
  throw Error::refused("unknown \"actorder\" " + value.dump().substr(0, 32), where);
}

QuantArgs::Strategy parse_strategy(const Json& args, int64_t group_size, bool dynamic,
                                   const std::string& where) {
  if (!given(args, "strategy")) {
    if (dynamic) return QuantArgs::Strategy::token;
    if (group_size > 0) return QuantArgs::Strategy::group;
    return group_size < 0 ? QuantArgs::Strategy::channel : QuantArgs::Strategy::tensor;
  }
  const auto text = json_get<std::string>(args, "strategy", where);
  if (text == "tensor") return QuantArgs::Strategy::tensor;
  if (text == "channel") return QuantArgs::Strategy::channel;
  if (text == "group") return QuantArgs::Strategy::group;
  if (text == "token") return QuantArgs::Strategy::token;
  throw Error::refused("strategy \"" + text.substr(0, 32) + "\" is not supported", where,
                       "supported: tensor, channel, group, token");
}

QuantArgs parse_args(const Json& object, const std::string& where) {
  if (!object.is_object()) throw Error::refused("not an object", where);
  QuantArgs args;
  const auto bits = json_get<int64_t>(object, "num_bits", where, 8);
  const auto type = json_get<std::string>(object, "type", where, "int");
  if (type == "float") {
    args.type = QuantArgs::Type::floating;
    if (bits != 8) {
      throw Error::refused(std::to_string(bits) + "-bit floating point is not supported", where,
                           "8-bit (e4m3) is; nvfp4 and mxfp formats are not");
    }
  } else if (type != "int" || bits < 2 || bits > 8) {
    throw Error::refused(
        std::to_string(bits) + "-bit \"" + type.substr(0, 32) + "\" is not supported", where,
        "supported: int with 2 to 8 bits, float with 8");
  }
  args.bits = static_cast<int>(bits);
  args.symmetric = json_get<bool>(object, "symmetric", where, true);
  const auto group_size = json_get<int64_t>(object, "group_size", where, 0);
  if (given(object, "dynamic")) {
    if (!object["dynamic"].is_boolean())
      throw Error::refused(
          "\"dynamic\": " + object["dynamic"].dump().substr(0, 32) + " is not supported", where);
    args.dynamic = object["dynamic"].get<bool>();
  }
  args.strategy = parse_strategy(object, group_size, args.dynamic, where);
  if (args.strategy == QuantArgs::Strategy::group) {
    if (group_size < 1 || group_size > (1 << 20))
      throw Error::refused("group_size " + std::to_string(group_size) + " is out of range", where);
    args.group_size = group_size;
  }
  args.actorder = parse_actorder(object, where);
  args.observer = json_get<std::string>(object, "observer", where, "minmax");
  return args;
}

// Whether a kv_cache_scheme is one whose scales stand in the file, in the type that caches have.
bool is_static_fp8(const Json& scheme) {
  return scheme.is_object() && scheme.value("num_bits", Json()) == 8 &&
         scheme.value("type", Json()) == "float" && scheme.value("dynamic", Json()) != true;
}

Scheme parse_scheme(const Json& group, const std::string& where) {
  if (!group.is_object()) throw Error::refused("not an object", where);
  if (given(group, "output_activations"))
    throw Error::refused("quantized outputs are not supported", where);
  const auto format = json_get<std::string>(group, "format", where, "");
  if (format.starts_with("nvfp4") || format.starts_with("mxfp") || format.starts_with("marlin") ||
      format.starts_with("sparse"))
    throw Error::refused("format \"" + format.substr(0, 32) + "\" is not supported", where);
  Scheme scheme;
  if (given(group, "weights")) {
    scheme.weights = parse_args(group["weights"], where + ".weights");
    if (scheme.weights->dynamic || scheme.weights->strategy == QuantArgs::Strategy::token)
      throw Error::refused("weights cannot be quantized per token", where + ".weights");
    if (scheme.weights->type == QuantArgs::Type::floating &&
        (!scheme.weights->symmetric || scheme.weights->strategy == QuantArgs::Strategy::group))
      throw Error::refused("8-bit floating weights must be symmetric, per tensor or channel",
                           where + ".weights");
  }
  if (given(group, "input_activations")) {
    const std::string place = where + ".input_activations";
    if (!scheme.weights) throw Error::refused("quantized inputs without quantized weights", place);
    scheme.inputs = parse_args(group["input_activations"], place);
    const QuantArgs& inputs = *scheme.inputs;
    if (inputs.bits != 8 || !inputs.symmetric ||
        (inputs.strategy != QuantArgs::Strategy::token &&
         inputs.strategy != QuantArgs::Strategy::tensor) ||
        (!inputs.dynamic && inputs.strategy != QuantArgs::Strategy::tensor))
      throw Error::refused("inputs must be 8-bit symmetric, dynamic per token or static per tensor",
                           place);
  }
  return scheme;
}

}  // namespace

struct QuantizationConfig::State {
  struct Group {
    std::vector<Target> targets;
    Scheme scheme;
  };
  std::vector<Group> groups;
  std::vector<Target> ignore;
  bool kv_scales = false, other_kv_scheme = false;
};

QuantizationConfig::QuantizationConfig() : state_(std::make_shared<State>()) {}

QuantizationConfig::QuantizationConfig(const Json& config, const std::string& where) {
  auto state = std::make_shared<State>();
  // compression_config is the name that files of 2024 use.
  const char* key = given(config, "quantization_config")  ? "quantization_config"
                    : given(config, "compression_config") ? "compression_config"
                                                          : nullptr;
  if (key) {
    const Json& object = config[key];
    const std::string place = where + ": " + key;
    if (!object.is_object()) throw Error::refused("not an object", place);
    const auto method = json_get<std::string>(object, "quant_method", place, "compressed-tensors");
    if (method != "compressed-tensors") {
      throw Error::refused("quant_method \"" + method.substr(0, 32) + "\" is not supported", place,
                           "compressed-tensors is");
    }
    if (given(object, "transform_config"))
      throw Error::refused("\"transform_config\" is not supported", place);
    if (given(object, "sparsity_config")) {
      const auto format =
          json_get<std::string>(object["sparsity_config"], "format", place, "dense");
      if (format != "dense")
        throw Error::refused("sparsity format \"" + format.substr(0, 32) + "\" is not supported",
                             place);
    }
    if (given(object, "kv_cache_scheme")) {
      state->kv_scales = is_static_fp8(object["kv_cache_scheme"]);
      state->other_kv_scheme = !state->kv_scales;
    }
    if (state->other_kv_scheme)
      log::warning("{}: kv_cache_scheme is not applied; 8-bit floating ones with static scales are",
                   where);
    const Json groups = object.contains("config_groups") ? object["config_groups"] : Json(nullptr);
    if (!groups.is_null() && (!groups.is_object() || groups.size() > kMaxTargets))
      throw Error::refused("not an object of at most 65536 groups", place + ".config_groups");
    for (const auto& [name, group] : groups.items()) {
      const std::string inside = place + ".config_groups." + name.substr(0, 64);
      const Scheme scheme = parse_scheme(group, inside);
      state->groups.push_back(
          {parse_targets(group.value("targets", Json()), inside + ".targets"), scheme});
    }
    if (object.contains("ignore"))
      state->ignore = parse_targets(object["ignore"], place + ".ignore");
  }
  state_ = std::move(state);
}

bool QuantizationConfig::announces_kv_scales() const { return state_->kv_scales; }
bool QuantizationConfig::has_other_kv_scheme() const { return state_->other_kv_scheme; }

Scheme QuantizationConfig::scheme(const std::string& module) const {
  for (const Target& target : state_->ignore)
    if (target.matches(module)) return {};
  for (const auto kind : {Target::Kind::name, Target::Kind::pattern, Target::Kind::all_linears}) {
    for (const State::Group& group : state_->groups)
      for (const Target& target : group.targets)
        if (target.kind() == kind && target.matches(module)) return group.scheme;
  }
  return {};
}

}  // namespace narrow::checkpoint
