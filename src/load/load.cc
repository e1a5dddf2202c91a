#include "load/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <random>
#include <set>
#include <thread>

#include "base/data_files.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"

namespace narrow::load {
namespace {

using endpoint::Clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

struct InFlight {
  int64_t index;
  Clock::time_point intended, sent;
  std::future<endpoint::GenerateResult> future;
};

bool open_loop(LoadPlan::Mode mode) {
  return mode == LoadPlan::Mode::constant || mode == LoadPlan::Mode::poisson;
}

class Runner {
 public:
  Runner(endpoint::Endpoint& endpoint, const Scenario& scenario, const LoadPlan& plan,
         const std::string& text)
      : endpoint_(endpoint),
        scenario_(scenario),
        plan_(plan),
        prompts_(make_prompts(endpoint.tokenizer(), text, scenario, plan)),
        rows_(prompts_.size()) {}

  std::vector<Json> run() {
    // Warm-up ends before the clock starts, in every mode.
    for (int64_t i = 0; i < plan_.warmup; ++i) {
      in_flight_.push_back(send(i, Clock::now()));
      drain();
    }
    start_ = Clock::now();
    Clock::time_point due = start_;
    std::mt19937_64 random(plan_.seed);
    std::exponential_distribution<double> gap(plan_.rate);
    for (int64_t i = plan_.warmup; i < static_cast<int64_t>(prompts_.size()); ++i) {
      if (open_loop(plan_.mode)) {
        while (Clock::now() < due) {
          throw_if_interrupted();
          std::this_thread::sleep_until(
              std::min(due, Clock::now() + std::chrono::milliseconds(20)));
        }
        in_flight_.push_back(send(i, due));
        const double next = plan_.mode == LoadPlan::Mode::poisson ? gap(random) : 1 / plan_.rate;
        due += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(next));
        continue;
      }
      const int64_t most = plan_.mode == LoadPlan::Mode::sync ? 1 : plan_.concurrency;
      while (most > 0 && static_cast<int64_t>(in_flight_.size()) >= most) finish_any();
      in_flight_.push_back(send(i, plan_.mode == LoadPlan::Mode::async && plan_.concurrency == 0
                                       ? start_
                                       : Clock::now()));
    }
    drain();
    return std::move(rows_);
  }

 private:
  InFlight send(int64_t index, Clock::time_point intended) {
    endpoint::GenerateRequest request;
    request.id = std::to_string(index);
    request.prompt = prompts_[static_cast<size_t>(index)];
    request.sampling.max_tokens = scenario_.generated_tokens;
    request.sampling.ignore_eos = true;
    const auto sent = Clock::now();
    return {index, intended, sent, endpoint_.generate(std::move(request))};
  }

  void finish_any() {
    while (true) {
      throw_if_interrupted();
      for (auto it = in_flight_.begin(); it != in_flight_.end(); ++it) {
        if (it->future.wait_for(std::chrono::milliseconds(0)) != std::future_status::ready)
          continue;
        record(*it);
        in_flight_.erase(it);
        return;
      }
      // Half a millisecond is small against any request and leaves the processor to the engine.
      in_flight_.front().future.wait_for(std::chrono::microseconds(500));
    }
  }

  void drain() {
    while (!in_flight_.empty()) finish_any();
  }

  void record(InFlight& request) {
    const endpoint::GenerateResult result = request.future.get();
    const bool warmup = request.index < plan_.warmup;
    const auto& tokens = result.timings.tokens;
    Json row{{"scenario", scenario_.name},
             {"mode", plan_.mode == LoadPlan::Mode::sync ? "sync" : "async"},
             {"arrival", name_of(plan_.mode)},
             {"prompt_tokens", result.prompt_tokens},
             {"cached_tokens", result.cached_tokens},
             {"output_tokens", tokens.size()},
             {"intended_s", warmup ? 0 : seconds_between(start_, request.intended)},
             {"sent_s", warmup ? 0 : seconds_between(start_, request.sent)},
             {"concurrency", plan_.mode == LoadPlan::Mode::sync ? 1
                             : plan_.concurrency > 0            ? plan_.concurrency
                                                                : plan_.requests},
             {"warmup", warmup}};
    const bool ok = result.error.empty() && !tokens.empty();
    if (const std::string failure = endpoint_.failure(); !ok && !failure.empty())
      throw Error::failed(failure, "load " + scenario_.name);
    row["status"] = ok ? "ok" : "error";
    row["error"] = ok ? Json() : Json(result.error.empty() ? "no tokens" : result.error);
    if (ok) {
      row["ttft_s"] = seconds_between(request.intended, tokens.front());
      row["e2e_s"] = seconds_between(request.intended, tokens.back());
      Json gaps = Json::array();
      for (size_t i = 1; i < tokens.size(); ++i)
        gaps.push_back(seconds_between(tokens[i - 1], tokens[i]));
      row["itl_s"] = std::move(gaps);
    }
    rows_[static_cast<size_t>(request.index)] = std::move(row);
  }

  endpoint::Endpoint& endpoint_;
  const Scenario scenario_;
  const LoadPlan plan_;
  const std::vector<std::vector<int32_t>> prompts_;
  std::vector<Json> rows_;
  std::deque<InFlight> in_flight_;
  Clock::time_point start_;
};

// Nearest rank; null when there are fewer than `least`.
Json percentile(std::vector<double> values, double share, size_t least) {
  if (values.size() < least || values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::max<size_t>(1, rank) - 1];
}

Json percentiles(const std::vector<double>& values) {
  return {{"p50", percentile(values, 0.5, 1)},
          {"p90", percentile(values, 0.9, 10)},
          {"p99", percentile(values, 0.99, 1000)}};
}

}  // namespace

std::string_view name_of(LoadPlan::Mode mode) {
  switch (mode) {
    case LoadPlan::Mode::sync:
      return "sync";
    case LoadPlan::Mode::async:
      return "async";
    case LoadPlan::Mode::constant:
      return "constant";
    case LoadPlan::Mode::poisson:
      return "poisson";
  }
  return "";
}

Scenario load_scenario(const std::string& name_or_path) {
  static const std::set<std::string> known = {"name", "title", "prompt_tokens", "generated_tokens"};
  const auto path = find_data_file("scenarios", name_or_path);
  const std::string where = path.string();
  const Json yaml = read_yaml(path);
  if (!yaml.is_object()) throw Error::refused("expected a mapping", where);
  for (const auto& [key, value] : yaml.items())
    if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where);
  Scenario scenario{json_get<std::string>(yaml, "name", where),
                    json_get<std::string>(yaml, "title", where),
                    json_get<int64_t>(yaml, "prompt_tokens", where),
                    json_get<int64_t>(yaml, "generated_tokens", where)};
  for (int64_t tokens : {scenario.prompt_tokens, scenario.generated_tokens})
    if (tokens < 1 || tokens > 1'000'000)
      throw Error::refused("token counts must be within 1 … 1000000", where);
  return scenario;
}

Scenario scaled(const Scenario& scenario, double factor) {
  Scenario result = scenario;
  const auto scale = [&](int64_t tokens) {
    return std::max<int64_t>(1, std::llround(static_cast<double>(tokens) * factor));
  };
  result.prompt_tokens = scale(scenario.prompt_tokens);
  result.generated_tokens = scale(scenario.generated_tokens);
  return result;
}

Json load_key(const Scenario& scenario, const LoadPlan& plan, const std::string& text_sha256) {
  return {{"scenario", scenario.name},
          {"prompt_tokens", scenario.prompt_tokens},
          {"generated_tokens", scenario.generated_tokens},
          {"mode", name_of(plan.mode)},
          {"requests", plan.requests},
          {"concurrency", plan.concurrency},
          {"rate", open_loop(plan.mode) ? Json(plan.rate) : Json()},
          {"warmup", plan.warmup},
          {"seed", plan.seed},
          {"text_sha256", text_sha256}};
}

std::vector<std::vector<int32_t>> make_prompts(const text::Tokenizer& tokenizer,
                                               const std::string& text, const Scenario& scenario,
                                               const LoadPlan& plan) {
  // Enough of the text to cut from, encoded once.
  constexpr size_t kMostBytes = size_t{1} << 20;
  const auto ids = tokenizer.encode(text.substr(0, kMostBytes), {});
  if (static_cast<int64_t>(ids.size()) < scenario.prompt_tokens) {
    throw Error::refused("the text has " + std::to_string(ids.size()) + " tokens, a prompt needs " +
                         std::to_string(scenario.prompt_tokens));
  }
  std::mt19937_64 random(
      std::stoull(sha256_hex(load_key(scenario, plan, "").dump()).substr(0, 16), nullptr, 16));
  // Eight digits, so that the number lies within the first block of any prefix cache; consecutive
  // within a load, so that it is never repeated there.
  constexpr uint64_t kNumbers = 100'000'000;
  const uint64_t first = random();
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t i = 0; i < plan.warmup + plan.requests; ++i) {
    const uint64_t number = (first + static_cast<uint64_t>(i)) % kNumbers;
    auto prompt = tokenizer.encode(fmt::format("{:08}: ", number), {});
    const auto last = ids.size() - static_cast<size_t>(scenario.prompt_tokens);
    const auto from = ids.begin() + static_cast<long>(random() % (last + 1));
    prompt.insert(prompt.end(), from, from + scenario.prompt_tokens);
    prompt.resize(static_cast<size_t>(scenario.prompt_tokens));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

std::vector<Json> run_load(endpoint::Endpoint& endpoint, const Scenario& scenario,
                           const LoadPlan& plan, const std::string& text) {
  if (plan.requests < 1) throw Error::refused("a load needs at least one request");
  if (open_loop(plan.mode) && !(plan.rate > 0)) throw Error::refused("the rate must be positive");
  return Runner(endpoint, scenario, plan, text).run();
}

Json summarize(const std::vector<Json>& rows) {
  std::vector<double> ttft, e2e, itl;
  int64_t failed = 0, requests = 0, tokens = 0, cached = 0;
  double last = 0;
  for (const Json& row : rows) {
    if (row["warmup"].get<bool>()) continue;
    ++requests;
    if (row["status"] != "ok") {
      ++failed;
      continue;
    }
    ttft.push_back(row["ttft_s"].get<double>());
    e2e.push_back(row["e2e_s"].get<double>());
    for (const Json& gap : row["itl_s"]) itl.push_back(gap.get<double>());
    tokens += row["output_tokens"].get<int64_t>();
    cached += row["cached_tokens"].get<int64_t>();
    last = std::max(last, row["intended_s"].get<double>() + row["e2e_s"].get<double>());
  }
  return {
      {"requests", requests},
      {"failed", failed},
      {"cached_tokens", cached},
      {"ttft_s", percentiles(ttft)},
      {"itl_s", percentiles(itl)},
      {"e2e_s", percentiles(e2e)},
      {"requests_per_second",
       last > 0 ? Json(static_cast<double>(requests - failed) / last) : Json()},
      {"output_tokens_per_second", last > 0 ? Json(static_cast<double>(tokens) / last) : Json()}};
}

}  // namespace narrow::load
