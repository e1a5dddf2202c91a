// Runs the grid of a plan: quantizes each format, evaluates it, compares it with the baseline,
// loads it. Every cell is idempotent: rows that are in the store are not computed again, so a study
// that was killed continues where it was.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "study/plan.h"
#include "tensor/dtype.h"

namespace narrow::study {

struct Settings {
  std::string backend = "auto";
  int threads = 0;
  std::optional<DType> kv_dtype;  // of the engine's KV cache; by default the backend's
  int jobs = 1;  // checkpoints made side by side while a device is measured; each takes `threads`
  uint64_t seed = 0;
  std::string hardware = "cpu";          // a file of hardware/
  std::optional<double> price_per_hour;  // USD; none: the hardware's
  std::filesystem::path data;            // data sets; empty: data/eval
  std::string encoder;                   // STS and BERTScore of the answers; empty: neither
  std::string version;                   // of narrow
};

// Leaves study.db and checkpoints/<format>/ in `directory`. Throws Error::refused, before anything
// is written, for what the plan names and is not there, and when the directory holds the study of
// another plan or model.
void run(const Plan& plan, const Settings& settings, const std::filesystem::path& directory);

}  // namespace narrow::study
