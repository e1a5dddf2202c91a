// Accelerators and what they cost, read from hardware/*.yaml. Plain values.
#pragma once

#include <optional>
#include <string>

namespace narrow::load {

struct Hardware {
  std::string name, title;
  std::optional<double> memory_gb;           // 10⁹ bytes
  std::optional<double> bandwidth_gb_per_s;  // 10⁹ bytes a second
  std::optional<double> price_per_hour;      // USD; none: the user must state one
  std::string source;                        // of the price, with its date
};

// By name, or a path. Throws Error::refused listing those there are, or naming the wrong field.
Hardware load_hardware(const std::string& name_or_path);

}  // namespace narrow::load
