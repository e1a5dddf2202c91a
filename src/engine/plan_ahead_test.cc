// Steps planned while the one before them runs give every request the bits that it has alone in an
// engine that waits for each step: mixed kinds of requests, arriving and cancelled at random
// moments, with ends that the plan could not foresee, on stories260K.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/test_files.h"
#include "engine/engine.h"
#include "engine/test_backends.h"

namespace narrow::engine {
namespace {

namespace fs = std::filesystem;
using endpoint::FinishReason;
using endpoint::GenerateRequest;
using endpoint::GenerateResult;
using endpoint::ScoreRequest;
using endpoint::ScoreResult;

// stories260K as it is, but with the full stop as an end of sequence.
class Model {
 public:
  Model() {
    const fs::path from = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k";
    for (const char* name : {"model.safetensors", "tokenizer.json", "tokenizer_config.json"})
      fs::copy(from / name, directory_.path() / name);
    Options options;
    options.backend = "cpu";
    options.threads = 1;
    const std::vector<int32_t> stop = Engine(from, options).tokenizer().encode("She ran.", {});
    Json config = parse_json(read_text(from / "config.json"), "config.json");
    config["eos_token_id"] = {2, stop.back()};
    directory_.file("config.json", config.dump());
  }
  const fs::path& path() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

const Model& model() {
  static const Model made;
  return made;
}

Options options_of(const std::string& backend, bool ahead) {
  Options options;
  options.backend = backend;
  options.threads = 1;
  options.plan_ahead = ahead;
  return options;
}

const char* const kPrompts[] = {"Once upon a time", "One day, a little girl named Lily",
                                "Tom and Jane are friends. They like to play in the park",
                                "The dog",
                                "Once upon a time, there was a big bear who lived in the forest"};

GenerateRequest request(const Engine& engine, int64_t i, int64_t tokens) {
  GenerateRequest request;
  request.prompt = engine.tokenizer().encode(kPrompts[i % 5], {.add_special = true});
  request.sampling.max_tokens = tokens;
  return request;
}

// Greedy or drawn, to a length, to an end of sequence, to a stop string; and with alternatives, of
// which more than a summary has make the engine wait.
std::vector<GenerateRequest> generations(const Engine& engine) {
  std::vector<GenerateRequest> list;
  for (int64_t i = 0; i < 20; ++i) {
    GenerateRequest one = request(engine, i, 1 + i * 7 % 45);
    one.sampling.ignore_eos = i % 4 != 1;
    if (i % 4 == 2) one.sampling.stop = {"never this", i % 3 ? " t" : "was a"};
    if (i % 3 == 0) one.sampling.temperature = 0.8;
    if (i % 6 == 0) one.sampling.top_p = 0.9;
    if (i % 9 == 0) one.sampling.top_k = 20;
    if (i % 10 == 7) one.sampling.logprobs = i == 7 ? 2 : ops::kMostBest + 5;
    one.sampling.seed = static_cast<uint64_t>(i);
    list.push_back(std::move(one));
  }
  return list;
}

std::vector<ScoreRequest> scorings() {
  std::vector<ScoreRequest> list;
  for (int32_t number = 0; number < 6; ++number) {
    ScoreRequest score;
    score.context = {1, number + 3};
    for (int32_t i = 0; i < 20 + number; ++i)
      score.continuation.push_back(3 + (i * 7 + number * 31) % 500);
    score.top = number == 5 ? 2 : number == 4 ? ops::kMostBest + 5 : 0;
    list.push_back(std::move(score));
  }
  return list;
}

void expect_same(const GenerateResult& got, const GenerateResult& expected) {
  EXPECT_EQ(got.token_ids, expected.token_ids);
  EXPECT_EQ(got.text, expected.text);
  EXPECT_EQ(got.finish, expected.finish);
  EXPECT_EQ(got.timings.tokens.size(), got.token_ids.size());
  ASSERT_EQ(got.logprobs.size(), expected.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i) {
    EXPECT_EQ(got.logprobs[i].logprob, expected.logprobs[i].logprob);
    EXPECT_EQ(got.logprobs[i].top, expected.logprobs[i].top);
  }
}

class PlanAhead : public testing::TestWithParam<std::string> {};

TEST_P(PlanAhead, AnswersAreThoseOfALoneRequest) {
  std::vector<GenerateResult> expected;
  std::vector<ScoreResult> expected_scores;
  {
    Engine alone(model().path(), options_of(GetParam(), /*ahead=*/false));
    for (GenerateRequest& one : generations(alone))
      expected.push_back(alone.generate(std::move(one)).get());
    for (ScoreRequest& one : scorings())
      expected_scores.push_back(alone.score(std::move(one)).get());
    EXPECT_EQ(alone.stats().steps_ahead, 0);
  }
  int64_t stopped = 0;
  for (const GenerateResult& result : expected) stopped += result.finish == FinishReason::stop;
  EXPECT_GT(stopped, 4);

  const Options whole = options_of(GetParam(), /*ahead=*/true);
  Options narrow_steps = whole, no_cache = whole, tiny_pool = whole;
  narrow_steps.max_step_tokens = 6;
  narrow_steps.max_batch = 9;
  no_cache.prefix_cache = false;
  tiny_pool.kv_bytes = kv_bytes_of(9, GetParam());
  std::mt19937 random(3);
  for (const Options& variant : {whole, narrow_steps, no_cache, tiny_pool}) {
    Engine engine(model().path(), variant);
    std::vector<std::future<GenerateResult>> results;
    std::vector<std::future<ScoreResult>> scores;
    std::vector<std::future<GenerateResult>> dropped;
    std::vector<std::stop_source> sources(expected.size());
    std::vector<GenerateRequest> list = generations(engine);
    std::vector<ScoreRequest> scored = scorings();
    for (size_t i = 0; i < list.size(); ++i) {
      if (random() % 4 == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      GenerateRequest cancelled = list[i];
      cancelled.cancel = sources[i].get_token();
      cancelled.sampling.max_tokens += 20;
      dropped.push_back(engine.generate(std::move(cancelled)));
      results.push_back(engine.generate(std::move(list[i])));
      if (i < scored.size()) scores.push_back(engine.score(std::move(scored[i])));
      sources[random() % (i + 1)].request_stop();
    }
    for (size_t i = 0; i < results.size(); ++i) {
      SCOPED_TRACE(i);
      expect_same(results[i].get(), expected[i]);
    }
    for (size_t i = 0; i < scores.size(); ++i) {
      const ScoreResult got = scores[i].get();
      ASSERT_EQ(got.tokens.size(), expected_scores[i].tokens.size());
      EXPECT_EQ(got.greedy, expected_scores[i].greedy);
      for (size_t t = 0; t < got.tokens.size(); ++t) {
        EXPECT_EQ(got.tokens[t].logprob, expected_scores[i].tokens[t].logprob);
        EXPECT_EQ(got.tokens[t].top, expected_scores[i].tokens[t].top);
      }
    }
    for (std::stop_source& source : sources) source.request_stop();
    for (size_t i = 0; i < dropped.size(); ++i) {
      const GenerateResult got = dropped[i].get();
      EXPECT_EQ(got.error, "");
      const size_t both = std::min(got.token_ids.size(), expected[i].token_ids.size());
      EXPECT_TRUE(std::equal(got.token_ids.begin(), got.token_ids.begin() + static_cast<long>(both),
                             expected[i].token_ids.begin()));
    }
    EXPECT_GT(engine.stats().steps_ahead, 0);
    if (variant.kv_bytes > 0) {
      EXPECT_GT(engine.stats().preemptions, 0);
    }
  }
}

// Of a lone request every step but the first is planned ahead, and what follows an end that
// was not foreseen is one row.
TEST_P(PlanAhead, OnlyUnforeseenEndsCostARow) {
  Engine engine(model().path(), options_of(GetParam(), /*ahead=*/true));
  GenerateRequest fixed = request(engine, 0, 30);
  fixed.sampling.ignore_eos = true;
  fixed.sampling.temperature = 0.5;
  fixed.sampling.logprobs = ops::kMostBest;
  EXPECT_EQ(engine.generate(fixed).get().token_ids.size(), 30u);
  Stats stats = engine.stats();
  EXPECT_EQ(stats.steps, 30);
  EXPECT_EQ(stats.steps_ahead, 29);
  EXPECT_EQ(stats.dropped_rows, 0);

  GenerateRequest open = request(engine, 2, 400);
  const GenerateResult result = engine.generate(open).get();
  EXPECT_EQ(result.finish, FinishReason::stop);
  EXPECT_LT(result.token_ids.size(), 400u);
  engine.generate(request(engine, 1, 1)).get();  // takes the results of the step after the end
  stats = engine.stats();
  EXPECT_EQ(stats.dropped_rows, 1);
  EXPECT_EQ(stats.generated_tokens, 29 + static_cast<int64_t>(result.token_ids.size()) - 1);
}

// Pieces of answers go out as they come, not when the request is done.
TEST_P(PlanAhead, TokensAreSeenOneByOne) {
  Engine engine(model().path(), options_of(GetParam(), /*ahead=*/true));
  GenerateRequest fixed = request(engine, 4, 25);
  fixed.sampling.ignore_eos = true;
  std::vector<int64_t> steps;
  std::string text;
  const GenerateResult result = engine
                                    .generate(fixed,
                                              [&](int32_t, std::string_view piece) {
                                                steps.push_back(engine.stats().steps);
                                                text += piece;
                                              })
                                    .get();
  ASSERT_EQ(steps.size(), 25u);
  for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int64_t>(i));
  EXPECT_EQ(text, result.text);
}

INSTANTIATE_TEST_SUITE_P(Backends, PlanAhead, testing::ValuesIn(test_backends()));

}  // namespace
}  // namespace narrow::engine
