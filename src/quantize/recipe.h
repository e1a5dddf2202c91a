// A recipe: a format plus the algorithm and the calibration that make it, read from recipes/*.yaml.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"

namespace narrow::quantize {

struct Recipe {
  enum class Method { none, round, gptq, awq };

  std::string name;
  std::string format;  // "bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"
  Method method = Method::none;
  int64_t group_size = 128;         // formats with groups
  double max_shrink = 0;            // clipping search of the observer; 0: min-max
  double damping = 0.01;            // gptq
  bool activation_order = true;     // gptq
  std::optional<double> smoothing;  // SmoothQuant strength, before the method
  int64_t search_samples = 2;       // awq: windows on which candidates are compared
  int64_t samples = 128;            // calibration windows
  int64_t length = 512;             // tokens of a window
  std::string calibration;          // file; empty: the packaged text

  bool needs_calibration() const {
    return method == Method::gptq || method == Method::awq || smoothing;
  }
  Json to_json() const;
};

// By name from recipes/, or a path. Throws Error::refused listing the recipes there are, or naming
// the field that is wrong.
Recipe load_recipe(const std::string& name_or_path);
Recipe parse_recipe(const Json& document, const std::string& where);

}  // namespace narrow::quantize
