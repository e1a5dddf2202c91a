#include "load/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace narrow::load {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

// Answers after set times, each request in a thread of its own; every `fails`-th fails.
class TimedEndpoint : public endpoint::Endpoint {
 public:
  TimedEndpoint(milliseconds first, milliseconds between) : first_(first), between_(between) {}
  ~TimedEndpoint() override {
    for (std::thread& thread : threads_) thread.join();
  }

  const endpoint::Info& info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override { return tokenizer_; }
  const text::ChatTemplate* chat_template() const override { return nullptr; }

  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink) override {
    auto promise = std::make_shared<std::promise<endpoint::GenerateResult>>();
    auto future = promise->get_future();
    const int number = ++requests;
    threads_.emplace_back([this, promise, number, request = std::move(request)] {
      {
        std::lock_guard lock(mutex_);
        most_in_flight = std::max(most_in_flight, ++in_flight_);
      }
      endpoint::GenerateResult result;
      result.prompt_tokens = static_cast<int64_t>(request.prompt.size());
      result.cached_tokens = cached;
      if (fails > 0 && number % fails == 0) {
        result.error = "out of patience";
      } else {
        auto at = endpoint::Clock::now() + first_;
        for (int64_t i = 0; i < request.sampling.max_tokens; ++i, at += between_)
          result.timings.tokens.push_back(at);
        std::this_thread::sleep_until(result.timings.tokens.back());
      }
      {
        std::lock_guard lock(mutex_);
        --in_flight_;
      }
      promise->set_value(std::move(result));
    });
    return future;
  }
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest) override { return {}; }
  std::string failure() const override { return ended; }

  int requests = 0, fails = 0, most_in_flight = 0;
  std::string ended;
  int64_t cached = 0;

 private:
  const milliseconds first_, between_;
  endpoint::Info info_;
  text::Tokenizer tokenizer_ = text::Tokenizer::from_json(
      read_text(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k/tokenizer.json"),
      "{}");
  std::mutex mutex_;
  int in_flight_ = 0;
  std::vector<std::thread> threads_;
};

std::string text() {
  std::string result;
  for (int i = 0; i < 400; ++i)
    result += "Once upon a time there was a number " + std::to_string(i);
  return result;
}

LoadPlan plan_of(LoadPlan::Mode mode, int64_t requests, int64_t concurrency = 0) {
  LoadPlan plan;
  plan.mode = mode;
  plan.requests = requests;
  plan.concurrency = concurrency;
  plan.warmup = 1;
  return plan;
}

TEST(MakePrompts, NoTwoRequestsOfAStudyShareABlock) {
  const TimedEndpoint endpoint(milliseconds(0), milliseconds(0));
  constexpr size_t kBlockTokens = 16;
  std::set<std::vector<int32_t>> beginnings;
  size_t prompts = 0;
  for (const char* scenario : {"chat", "instructions"}) {
    for (const auto mode : {LoadPlan::Mode::sync, LoadPlan::Mode::async}) {
      for (const auto& prompt :
           make_prompts(endpoint.tokenizer(), text(), {scenario, "", 64, 8}, plan_of(mode, 50))) {
        EXPECT_EQ(prompt.size(), 64u);
        beginnings.emplace(prompt.begin(), prompt.begin() + kBlockTokens);
        ++prompts;
      }
    }
  }
  EXPECT_EQ(prompts, 2u * 2 * 51);
  EXPECT_EQ(beginnings.size(), prompts);
}

TEST(MakePrompts, AreTheSameForTheSamePlan) {
  const TimedEndpoint endpoint(milliseconds(0), milliseconds(0));
  const Scenario scenario{"chat", "", 40, 8};
  LoadPlan plan = plan_of(LoadPlan::Mode::sync, 5);
  const auto prompts = make_prompts(endpoint.tokenizer(), text(), scenario, plan);
  EXPECT_EQ(make_prompts(endpoint.tokenizer(), text(), scenario, plan), prompts);
  plan.seed = 1;
  EXPECT_NE(make_prompts(endpoint.tokenizer(), text(), scenario, plan), prompts);
}

TEST(MakePrompts, RefuseATextThatIsTooShort) {
  const TimedEndpoint endpoint(milliseconds(0), milliseconds(0));
  EXPECT_THROW(make_prompts(endpoint.tokenizer(), "short", {"chat", "", 4000, 8}, {}), Error);
}

// The latencies are times of the endpoint, so lower bounds are exact and a busy machine may only
// add to them.
TEST(RunLoad, MeasuresWhatTheEndpointTakes) {
  TimedEndpoint endpoint(milliseconds(40), milliseconds(10));
  const auto rows =
      run_load(endpoint, {"chat", "", 32, 5}, plan_of(LoadPlan::Mode::sync, 3), text());
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_TRUE(rows[0]["warmup"].get<bool>());
  EXPECT_EQ(endpoint.most_in_flight, 1);
  for (const Json& row : rows) {
    EXPECT_EQ(row["status"], "ok");
    EXPECT_EQ(row["prompt_tokens"], 32);
    EXPECT_EQ(row["output_tokens"], 5);
    EXPECT_GE(row["ttft_s"].get<double>(), 0.040);
    EXPECT_GE(row["e2e_s"].get<double>(), 0.080);
    EXPECT_NEAR(row["e2e_s"].get<double>() - row["ttft_s"].get<double>(), 0.040, 1e-6);
    ASSERT_EQ(row["itl_s"].size(), 4u);
    for (const Json& gap : row["itl_s"]) EXPECT_NEAR(gap.get<double>(), 0.010, 1e-6);
  }
  const Json summary = summarize(rows);
  EXPECT_EQ(summary["requests"], 3);
  EXPECT_EQ(summary["failed"], 0);
  EXPECT_EQ(summary["cached_tokens"], 0);
  EXPECT_LE(summary["requests_per_second"].get<double>(), 1 / 0.080);
  EXPECT_TRUE(summary["ttft_s"]["p99"].is_null());
}

// What waits in a closed window waits before it is sent; what is sent all at once is timed from the
// common start.
TEST(RunLoad, HoldsTheConcurrency) {
  TimedEndpoint endpoint(milliseconds(20), milliseconds(1));
  const auto rows =
      run_load(endpoint, {"chat", "", 32, 2}, plan_of(LoadPlan::Mode::async, 7, 3), text());
  EXPECT_EQ(endpoint.most_in_flight, 3);
  EXPECT_EQ(rows.back()["concurrency"], 3);
  EXPECT_GE(rows.back()["sent_s"].get<double>(), 0.042);

  TimedEndpoint open(milliseconds(20), milliseconds(1));
  for (const Json& row :
       run_load(open, {"chat", "", 32, 2}, plan_of(LoadPlan::Mode::async, 7), text()))
    EXPECT_EQ(row["intended_s"], 0);
  EXPECT_EQ(open.most_in_flight, 7);
}

TEST(RunLoad, SendsAtTheRateWhateverIsInFlight) {
  TimedEndpoint endpoint(milliseconds(200), milliseconds(1));
  LoadPlan plan = plan_of(LoadPlan::Mode::constant, 4);
  plan.rate = 50;
  const auto rows = run_load(endpoint, {"chat", "", 32, 2}, plan, text());
  for (size_t i = 1; i < rows.size(); ++i)
    EXPECT_NEAR(rows[i]["intended_s"].get<double>(), 0.02 * static_cast<double>(i - 1), 1e-6);
  EXPECT_EQ(endpoint.most_in_flight, 4);
}

TEST(RunLoad, KeepsWhatFails) {
  TimedEndpoint endpoint(milliseconds(1), milliseconds(1));
  endpoint.fails = 3;
  endpoint.cached = 16;
  const auto rows =
      run_load(endpoint, {"chat", "", 32, 2}, plan_of(LoadPlan::Mode::sync, 8), text());
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_EQ(rows[2]["status"], "error");
  EXPECT_THAT(rows[2]["error"].get<std::string>(), HasSubstr("patience"));
  EXPECT_FALSE(rows[2].contains("ttft_s"));
  const Json summary = summarize(rows);
  EXPECT_EQ(summary["requests"], 8);
  EXPECT_EQ(summary["failed"], 3);
  EXPECT_EQ(summary["cached_tokens"], 5 * 16);
}

// Else a study would keep the rows and not ask again.
TEST(RunLoad, ThrowsWhenTheEndpointHasEnded) {
  TimedEndpoint endpoint(milliseconds(1), milliseconds(1));
  endpoint.fails = 3;
  endpoint.ended = "the device is gone";
  try {
    run_load(endpoint, {"chat", "", 32, 2}, plan_of(LoadPlan::Mode::sync, 8), text());
    FAIL() << "gave rows";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the device is gone"));
  }
  EXPECT_EQ(endpoint.requests, 3);
}

TEST(LoadScenario, TheStudysSeven) {
  // Section 5 of arXiv 2411.02355: prompt and generated tokens.
  const std::map<std::string, std::pair<int64_t, int64_t>> seven = {
      {"code_completion", {256, 1024}},      {"docstring_generation", {768, 128}},
      {"code_fixing", {1024, 1024}},         {"rag", {1024, 128}},
      {"instruction_following", {256, 128}}, {"chat", {512, 256}},
      {"summarization", {4096, 512}}};
  for (const auto& [name, tokens] : seven) {
    const Scenario scenario = load_scenario(name);
    EXPECT_EQ(std::pair(scenario.prompt_tokens, scenario.generated_tokens), tokens) << name;
  }
  EXPECT_EQ(scaled({"x", "", 256, 128}, 0.25).prompt_tokens, 64);
  EXPECT_THROW(load_scenario("no-such-scenario"), Error);
}

}  // namespace
}  // namespace narrow::load
