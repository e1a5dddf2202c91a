#include "engine/fit.h"

#include <fmt/format.h>

#include "ops/batch.h"

namespace narrow::engine {

int64_t weight_bytes(const checkpoint::ModelConfig& config, double bits) {
  const int64_t queries = config.heads * config.head_dim, keys = config.kv_heads * config.head_dim;
  const int64_t linear =
      config.hidden * (2 * queries + 2 * keys) + 3 * config.hidden * config.intermediate;
  return static_cast<int64_t>(static_cast<double>(config.layers * linear) * bits / 8) +
         2 * config.vocabulary * config.hidden * 2;
}

std::string formats_that_fit(const checkpoint::ModelConfig& config, int64_t free_bytes) {
  struct Width {
    const char* name;
    double bits;
  };
  // 4-bit codes come with a bf16 scale for each group of 128.
  for (const Width& width :
       {Width{"bf16", 16}, Width{"8-bit formats", 8}, Width{"4-bit formats", 4 + 16.0 / 128}}) {
    const int64_t bytes = weight_bytes(config, width.bits);
    if (bytes < free_bytes)
      return fmt::format("{} ({:.1f} GiB) would fit", width.name,
                         static_cast<double>(bytes) / 0x1p30);
  }
  return "no format of this model would fit";
}

std::string context_that_fits(int64_t block_bytes, int64_t free_bytes) {
  const int64_t blocks = free_bytes / block_bytes;
  if (blocks < 1) return "the weights leave no room: take a format of fewer bits";
  return fmt::format("--max-context {} fits", blocks * ops::kKvBlockTokens);
}

}  // namespace narrow::engine
