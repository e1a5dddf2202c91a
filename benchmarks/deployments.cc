// The study's seven deployments on a Llama-3.1-8B-shaped model with random weights, through the
// engine as a program would use it: one request at a time, then all at once. Prompts are random
// tokens, the answers greedy and of exactly the asked length, without a prefix cache: the
// conditions of the figures of other engines that docs/performance.md compares with.
//
//   deployments FORMAT [BACKEND [sync|async|steps|drawn|fp8_kv|NAME|COUNT]...]
//
// By default on cuda, both ways, all of them. COUNT: requests at once, instead of each deployment's
// own number. steps: decode steps of 1 to 512 sequences (or COUNT) as the engine runs them, one
// behind the other. drawn: not greedy, but at temperature 0.6 with top_p 0.95. fp8_kv: keys and
// values in e4m3.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "arguments.h"
#include "base/error.h"
#include "engine/engine.h"
#include "synthetic_checkpoint.h"

namespace {

using namespace narrow;
using Seconds = std::chrono::duration<double>;

struct Deployment {
  const char* name;
  int64_t prompt, generated, at_once;
};
constexpr Deployment kDeployments[] = {
    {"instruction following", 256, 128, 512}, {"multi-turn chat", 512, 256, 512},
    {"docstring generation", 768, 128, 512},  {"RAG", 1024, 128, 512},
    {"code completion", 256, 1024, 512},      {"summarization", 4096, 512, 256},
    {"code fixing", 1024, 1024, 512}};

std::mt19937 random_numbers(11);
bool drawn = false;

endpoint::GenerateRequest request_of(const Deployment& deployment, int64_t generated) {
  std::uniform_int_distribution<int32_t> token(0, 128255);
  endpoint::GenerateRequest request;
  for (int64_t i = 0; i < deployment.prompt; ++i) request.prompt.push_back(token(random_numbers));
  request.sampling.max_tokens = generated;
  request.sampling.ignore_eos = true;
  if (drawn) {
    request.sampling.temperature = 0.6;
    request.sampling.top_p = 0.95;
    request.sampling.seed = random_numbers();
  }
  return request;
}

double seconds_of(engine::Engine& engine, const Deployment& deployment, int64_t generated,
                  int64_t count) {
  std::vector<endpoint::GenerateRequest> requests;
  for (int64_t i = 0; i < count; ++i) requests.push_back(request_of(deployment, generated));
  const auto start = endpoint::Clock::now();
  std::vector<std::future<endpoint::GenerateResult>> results;
  for (auto& request : requests) results.push_back(engine.generate(std::move(request)));
  for (auto& result : results) {
    const endpoint::GenerateResult got = result.get();
    if (static_cast<int64_t>(got.token_ids.size()) != generated)
      throw Error::failed("a request ended early: " + got.error);
  }
  return Seconds(endpoint::Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void one_at_a_time(engine::Engine& engine, const Deployment& deployment) {
  std::vector<double> first, whole;
  for (int i = 0; i < 5; ++i) first.push_back(seconds_of(engine, deployment, 1, 1));
  for (int i = 0; i < (deployment.generated > 512 ? 1 : 3); ++i)
    whole.push_back(seconds_of(engine, deployment, deployment.generated, 1));
  const double total = median(whole), ttft = median(first);
  std::cout
      << fmt::format(
             "  {:<22} {:>4}/{:<4}  {:.3f} s, first token {:.1f} ms, between tokens {:.3f} ms",
             deployment.name, deployment.prompt, deployment.generated, total, 1000 * ttft,
             1000 * (total - ttft) / static_cast<double>(deployment.generated - 1))
      << std::endl;
}

void all_at_once(engine::Engine& engine, const Deployment& deployment) {
  const double seconds = seconds_of(engine, deployment, deployment.generated, deployment.at_once);
  const double requests = static_cast<double>(deployment.at_once) / seconds;
  std::cout << fmt::format("  {:<22} {:>4}/{:<4}  {} at once: {:.2f} requests/s, {:.0f} tokens/s",
                           deployment.name, deployment.prompt, deployment.generated,
                           deployment.at_once, requests,
                           requests * static_cast<double>(deployment.generated))
            << std::endl;
}

// A step of `sequences` of some 512 tokens: generations of 192 tokens differ from those of 64 by
// 128 such steps.
void steps(engine::Engine& engine, int64_t sequences) {
  const Deployment prompts{"", 384, 0, sequences};
  const auto time = [&](int64_t generated) {
    std::vector<double> times;
    for (int i = 0; i < 3; ++i) times.push_back(seconds_of(engine, prompts, generated, sequences));
    return median(times);
  };
  const double shorter = time(64), longer = time(192);
  std::cout << fmt::format("  {:>3} sequences: {:.3f} ms a step", sequences,
                           1000 * (longer - shorter) / 128)
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr
        << "usage: deployments FORMAT [BACKEND [sync|async|steps|drawn|fp8_kv|NAME|COUNT]...]\n";
    return 2;
  }
  engine::Options options;
  options.backend = argc > 2 ? argv[2] : "cuda";
  options.prefix_cache = false;
  bool sync = false, async = false, in_steps = false;
  std::vector<Deployment> chosen;
  int64_t at_once = 0;
  for (int i = 3; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto named = std::find_if(std::begin(kDeployments), std::end(kDeployments),
                                    [&](const Deployment& of) { return argument == of.name; });
    if (named != std::end(kDeployments)) {
      chosen.push_back(*named);
    } else if (argument == "sync") {
      sync = true;
    } else if (argument == "async") {
      async = true;
    } else if (argument == "steps") {
      in_steps = true;
    } else if (argument == "drawn") {
      drawn = true;
    } else if (argument == "fp8_kv") {
      options.kv_dtype = DType::f8_e4m3;
    } else {
      at_once = benchmarks::count_of(argument);
    }
  }
  if (!sync && !async && !in_steps) sync = async = true;
  if (chosen.empty()) chosen.assign(std::begin(kDeployments), std::end(kDeployments));
  for (Deployment& deployment : chosen)
    if (at_once > 0) deployment.at_once = at_once;
  const auto start = endpoint::Clock::now();
  engine::Engine engine(
      std::make_unique<benchmarks::SyntheticCheckpoint>(benchmarks::kLlama8B, argv[1]), options);
  seconds_of(engine, kDeployments[0], 1, 1);
  std::cout << fmt::format("{} on {}: first token after {:.1f} s, KV cache of {} tokens", argv[1],
                           engine.info().backend, Seconds(endpoint::Clock::now() - start).count(),
                           engine.stats().total_blocks * ops::kKvBlockTokens)
            << std::endl;
  if (sync) {
    std::cout << "one at a time\n";
    for (const Deployment& deployment : chosen) one_at_a_time(engine, deployment);
  }
  if (async) {
    std::cout << "all at once\n";
    for (const Deployment& deployment : chosen) all_at_once(engine, deployment);
  }
  if (in_steps) {
    std::cout << "decode steps\n";
    const std::vector<int64_t> counts =
        at_once > 0 ? std::vector{at_once} : std::vector<int64_t>{1, 8, 32, 64, 128, 256, 512};
    for (const int64_t sequences : counts) steps(engine, sequences);
  }
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "deployments: " << error.what() << "\n";
  return error.exit_status();
}
