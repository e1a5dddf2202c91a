#include "load/hardware.h"

#include <set>

#include "base/data_files.h"
#include "base/error.h"
#include "base/json.h"

namespace narrow::load {

Hardware load_hardware(const std::string& name_or_path) {
  static const std::set<std::string> known = {
      "name", "title", "memory_gb", "bandwidth_gb_per_s", "source", "price_per_hour"};
  const auto path = find_data_file("hardware", name_or_path);
  const std::string where = path.string();
  const Json yaml = read_yaml(path);
  if (!yaml.is_object()) throw Error::refused("expected a mapping", where);
  for (const auto& [key, value] : yaml.items())
    if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where);
  const auto positive = [&](const char* key) -> std::optional<double> {
    if (!yaml.contains(key)) return std::nullopt;
    const auto value = json_get<double>(yaml, key, where);
    if (!(value > 0)) throw Error::refused(std::string("\"") + key + "\" must be positive", where);
    return value;
  };
  Hardware hardware;
  hardware.name = json_get<std::string>(yaml, "name", where);
  hardware.title = json_get<std::string>(yaml, "title", where);
  hardware.source = json_get<std::string>(yaml, "source", where);
  hardware.memory_gb = positive("memory_gb");
  hardware.bandwidth_gb_per_s = positive("bandwidth_gb_per_s");
  hardware.price_per_hour = positive("price_per_hour");
  return hardware;
}

}  // namespace narrow::load
