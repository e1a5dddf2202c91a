#include "base/log.h"
#include "cli/verbs.h"

namespace narrow::cli {

void add_globals(CLI::App& verb, Globals& globals) {
  verb.add_option("--backend", globals.backend, "auto, cpu, cuda or reference")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "reference"}))
      ->capture_default_str();
  verb.add_option("--threads", globals.threads, "threads of the cpu backend; 0: all processors")
      ->check(CLI::Range(0, 1024));
  verb.add_option("--seed", globals.seed, "seed of everything random")->capture_default_str();
  verb.add_flag("--json", globals.json, "print one JSON document on standard output");
  verb.add_flag_callback(
      "-v,--verbose", [] { log::set_level(log::Level::debug); }, "say more");
  verb.add_flag_callback(
      "-q,--quiet", [] { log::set_level(log::Level::warning); }, "say only what went wrong");
}

void add_kv_cache_flag(CLI::App& verb, Globals& globals) {
  verb.add_option("--kv-cache-dtype", globals.kv_cache_dtype,
                  "keys and values: auto (bf16; f32 on reference) or fp8 (e4m3; cuda, reference)")
      ->check(CLI::IsMember({"auto", "fp8"}))
      ->capture_default_str();
}

}  // namespace narrow::cli
