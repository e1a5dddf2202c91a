// Deployment loads: requests of a scenario's lengths, sent synchronously, all at once, with a fixed
// concurrency or at a rate, against any Endpoint; and what each of them took. Latencies are
// measured from the moment a request was meant to be sent, so that a stall of the server shows in
// all requests it held up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "endpoint/endpoint.h"

namespace narrow::load {

struct Scenario {
  std::string name, title;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

// By name from scenarios/, or a path. Throws Error::refused.
Scenario load_scenario(const std::string& name_or_path);
// Token counts times `factor`, at least one each.
Scenario scaled(const Scenario& scenario, double factor);

struct LoadPlan {
  enum class Mode {
    sync,      // one after another
    async,     // `concurrency` at a time; 0: all at once, the maximum throughput
    constant,  // one every 1 / rate seconds, whether or not earlier ones are done
    poisson,   // with exponential gaps of that mean
  };
  Mode mode = Mode::sync;
  int64_t requests = 1;
  int64_t concurrency = 0;
  double rate = 1;     // requests a second
  int64_t warmup = 0;  // first requests, marked and not to be counted
  uint64_t seed = 0;
};

std::string_view name_of(LoadPlan::Mode mode);

// What determines a run beside the model and the machine.
Json load_key(const Scenario& scenario, const LoadPlan& plan, const std::string& text_sha256);

// Prompts of exactly scenario.prompt_tokens ids, warm-up first, cut from `text` at seeded places.
// Each begins with a number of its own that depends on the whole plan: no two requests share a
// beginning, in one load or in two loads after each other (synchronous, then asynchronous; two
// scenarios of one length), so that an engine's prefix cache cannot help. The same scenario and
// plan give the same prompts, whatever the model.
std::vector<std::vector<int32_t>> make_prompts(const text::Tokenizer& tokenizer,
                                               const std::string& text, const Scenario& scenario,
                                               const LoadPlan& plan);

// One row per request (docs/metrics.md), in the order they were meant to be sent. Exactly
// scenario.generated_tokens are asked for. A request that fails is a row with its error. Throws
// Error::failed when the endpoint itself has ended (Endpoint::failure): what it no longer answers is
// no measurement.
std::vector<Json> run_load(endpoint::Endpoint& endpoint, const Scenario& scenario,
                           const LoadPlan& plan, const std::string& text);

// Medians, nearest-rank percentiles (p99 only of 1000 requests or more) and rates of the requests
// that are no warm-up; cached_tokens: prompt tokens that were not computed but found in a cache.
Json summarize(const std::vector<Json>& rows);

}  // namespace narrow::load
