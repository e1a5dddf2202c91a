// Quantizes a whole model, layer by layer: a layer's linears are quantized from what they see
// behind the layers already quantized, so that later layers answer for earlier errors. Host memory
// holds one layer and the calibration's hidden states.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "ops/backend.h"
#include "quantize/calibration.h"
#include "quantize/recipe.h"

namespace narrow::quantize {

struct ModuleReport {
  std::string module;         // "model.layers.0.mlp.up_proj"
  double relative_error = 0;  // ||W - Wq|| / ||W||, scalings undone
  double output_error = -1;  // sqrt(Σ ||x ΔWᵀ||² / Σ ||x Wᵀ||²) on calibration; -1: no data
  int64_t group_size = 0;    // 0: per channel
  std::string note;          // what was done differently here; empty as a rule
};

struct Report {
  std::vector<ModuleReport> modules;
  std::vector<std::string> notes;  // the first module of each note there is, "module: note"
  int64_t checkpoint_bytes = 0;
  double seconds = 0;

  // Takes a finished module. One whose error is larger than what it should have been, which no
  // recipe makes of sound statistics, gets a note that says so.
  void add(ModuleReport module);

  // The quantize row of a study (docs/metrics.md); narrow.json has the same less the seconds.
  Json to_json(const Recipe& recipe, const Calibration& calibration) const;
};

// Writes `directory`. Throws Error::refused for a model that holds NaN or infinity, naming tensor
// and index, and for an output directory that exists. The output is a function of model, recipe and
// calibration alone.
Report quantize(const checkpoint::Checkpoint& model, const Recipe& recipe,
                const Calibration& calibration, const std::filesystem::path& directory,
                ops::Backend& backend, int threads);

}  // namespace narrow::quantize
