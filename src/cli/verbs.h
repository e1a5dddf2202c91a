// The verbs. Each file of this room adds one subcommand whose callback does the work and throws
// narrow::Error; main() turns that into a message and the exit status of docs/reliability.md.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace narrow::cli {

// Flags that every verb takes.
struct Globals {
  std::string backend = "auto";
  int threads = 0;  // 0: all processors
  uint64_t seed = 0;
  bool json = false;
};

// Adds --backend, --threads, --seed, --json, -v and -q to a verb.
void add_globals(CLI::App& verb, Globals& globals);

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
