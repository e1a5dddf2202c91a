// The verbs. Each file of this room adds one subcommand whose callback does the work and throws
// narrow::Error; main() turns that into a message and the exit status of docs/reliability.md.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "tensor/dtype.h"

namespace narrow::cli {

// Flags that every verb takes.
struct Globals {
  std::string backend = "auto";
  int threads = 0;  // 0: all processors
  uint64_t seed = 0;
  bool json = false;
  std::string kv_cache_dtype = "auto";

  // Of the engine's cache; nothing: the backend's own.
  std::optional<DType> kv_dtype() const {
    return kv_cache_dtype == "fp8" ? std::optional(DType::f8_e4m3) : std::nullopt;
  }
};

// Adds --backend, --threads, --seed, --json, -v and -q to a verb.
void add_globals(CLI::App& verb, Globals& globals);
// Adds --kv-cache-dtype to a verb that runs a model.
void add_kv_cache_flag(CLI::App& verb, Globals& globals);

void add_arena(CLI::App& app, Globals& globals);
void add_bench(CLI::App& app, Globals& globals);
void add_compare(CLI::App& app, Globals& globals);
void add_eval(CLI::App& app, Globals& globals);
void add_inspect(CLI::App& app, Globals& globals);
void add_pull(CLI::App& app, Globals& globals);

void add_generate(CLI::App& app, Globals& globals);
void add_quantize(CLI::App& app, Globals& globals);
void add_recommend(CLI::App& app, Globals& globals);
void add_report(CLI::App& app, Globals& globals);
void add_score(CLI::App& app, Globals& globals);
void add_study(CLI::App& app, Globals& globals);
void add_tokenize(CLI::App& app, Globals& globals);

}  // namespace narrow::cli
