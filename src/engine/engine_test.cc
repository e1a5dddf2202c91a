// The engine on stories260K: results do not depend on the batch, on chunking, on the prefix cache
// or on preemption, bit for bit.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/temporary_directory.h"
#include "engine/block_pool.h"
#include "engine/sampler.h"
#include "engine/test_backends.h"
#include "ops/sampling.h"

namespace narrow::engine {
namespace {

using endpoint::FinishReason;
using endpoint::GenerateRequest;
using endpoint::GenerateResult;

const std::string kModel = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k";

Options options(const std::string& backend = test_backends().front()) {
  Options options;
  options.backend = backend;
  options.threads = 2;
  return options;
}

GenerateRequest request(const Engine& engine, const std::string& prompt, int64_t tokens,
                        double temperature = 0, uint64_t seed = 0) {
  GenerateRequest request;
  request.prompt = engine.tokenizer().encode(prompt, {.add_special = true});
  request.sampling.max_tokens = tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = seed;
  request.sampling.logprobs = 2;
  request.sampling.ignore_eos = true;
  return request;
}

const std::vector<std::string> kPrompts = {
    "Once upon a time", "One day, a little girl named Lily found a needle in her room.",
    "Tom and Jane are friends. They like to play in the park with their big red ball.", "The dog",
    "Once upon a time, there was a big bear who lived in the forest"};

void expect_same(const GenerateResult& a, const GenerateResult& b) {
  EXPECT_EQ(a.token_ids, b.token_ids);
  EXPECT_EQ(a.text, b.text);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    EXPECT_EQ(a.logprobs[i].logprob, b.logprobs[i].logprob) << "token " << i;
    EXPECT_EQ(a.logprobs[i].top, b.logprobs[i].top) << "token " << i;
  }
}

std::vector<GenerateResult> run_all(Engine& engine, bool together) {
  std::vector<std::future<GenerateResult>> futures;
  std::vector<GenerateResult> results;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    futures.push_back(engine.generate(
        request(engine, kPrompts[i], 40 + static_cast<int64_t>(i), i % 2 ? 0.8 : 0.0, i)));
    if (!together) results.push_back(futures.back().get());
  }
  if (together)
    for (auto& future : futures) results.push_back(future.get());
  return results;
}

class EngineTest : public testing::TestWithParam<std::string> {};

// Weights that became no numbers make every logit such; that is an error, not a text.
TEST_P(EngineTest, LogitsThatAreNoNumbersAreAnError) {
  namespace fs = std::filesystem;
  const TemporaryDirectory temporary;
  const fs::path& folder = temporary.path();
  fs::copy(kModel, folder, fs::copy_options::recursive);
  std::string file = read_text(folder / "model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const Json header = Json::parse(file.substr(sizeof(header_bytes), header_bytes));
  const auto range = header.at("model.norm.weight").at("data_offsets");
  for (auto at = range[0].get<size_t>(); at < range[1].get<size_t>(); ++at)
    file[sizeof(header_bytes) + header_bytes + at] = '\xff';  // NaN in every float
  std::ofstream(folder / "model.safetensors", std::ios::binary) << file;
  Engine engine(folder, options(GetParam()));
  for (const double temperature : {0.0, 0.8}) {
    endpoint::GenerateRequest asked = request(engine, "Once upon a time", 8, temperature);
    asked.sampling.logprobs = 0;
    const GenerateResult result = engine.generate(asked).get();
    EXPECT_EQ(result.finish, FinishReason::error);
    EXPECT_EQ(result.error, "the model's logits are no numbers");
  }
}

// Few alternatives come with a step's summary, more from its logits: they are the same.
TEST_P(EngineTest, AlternativesAreTheSameHoweverManyAreAsked) {
  Engine engine(kModel, options(GetParam()));
  constexpr auto kFew = static_cast<size_t>(ops::kMostBest);
  for (const double temperature : {0.0, 0.8}) {
    std::vector<GenerateResult> results;
    for (const size_t count : {kFew, kFew + 1}) {
      GenerateRequest asked = request(engine, kPrompts[1], 12, temperature);
      asked.sampling.logprobs = static_cast<int64_t>(count);
      results.push_back(engine.generate(asked).get());
      ASSERT_EQ(results.back().logprobs.size(), 12u);
      for (const auto& token : results.back().logprobs) ASSERT_EQ(token.top.size(), count);
    }
    for (size_t i = 0; i < 12; ++i) {
      const auto &few = results[0].logprobs[i], &more = results[1].logprobs[i];
      EXPECT_EQ(few.id, more.id);
      EXPECT_EQ(few.logprob, more.logprob);
      EXPECT_TRUE(std::equal(few.top.begin(), few.top.end(), more.top.begin()));
      const auto own = std::find_if(more.top.begin(), more.top.end(),
                                    [&](const auto& one) { return one.first == more.id; });
      if (own != more.top.end()) {
        EXPECT_EQ(own->second, more.logprob);
      }
    }
  }
}

// A cache in e4m3 is a quarter of the reference's and gives other, close likelihoods.
TEST(EngineKvCache, MayBeE4m3WhereTheBackendRunsIt) {
  Options wide = options("reference"), narrow = wide;
  narrow.kv_dtype = DType::f8_e4m3;
  Engine exact(kModel, wide), rounded(kModel, narrow);
  EXPECT_NE(rounded.info().backend.find("KV cache in f8_e4m3"), std::string::npos);
  endpoint::ScoreRequest scored;
  scored.context = exact.tokenizer().encode("Once upon a time", {.add_special = true});
  scored.continuation = exact.tokenizer().encode(", there was a little girl named Lily.", {});
  const auto expected = exact.score(scored).get(), got = rounded.score(scored).get();
  ASSERT_EQ(got.tokens.size(), expected.tokens.size());
  double largest = 0;
  for (size_t i = 0; i < got.tokens.size(); ++i)
    largest = std::max(largest, std::fabs(got.tokens[i].logprob - expected.tokens[i].logprob));
  EXPECT_GT(largest, 1e-4);
  EXPECT_LT(largest, 0.5);

  Options refused = options("cpu");
  refused.kv_dtype = DType::f8_e4m3;
  EXPECT_THROW(Engine(kModel, refused), Error);
}

TEST_P(EngineTest, ResultsDoNotDependOnTheSchedule) {
  Engine alone(kModel, options(GetParam()));
  const auto expected = run_all(alone, /*together=*/false);
  for (const auto& result : expected) EXPECT_EQ(result.finish, FinishReason::length);

  Options small_steps = options(GetParam());
  small_steps.max_step_tokens = 5;
  Options no_cache = options(GetParam());
  no_cache.prefix_cache = false;
  Options tiny_pool = options(GetParam());
  // 512 tokens of context are 32 blocks; these hold one long request and a bit: others must wait
  // or be preempted.
  tiny_pool.kv_bytes = kv_bytes_of(9, GetParam());
  for (const Options& variant : {options(GetParam()), small_steps, no_cache, tiny_pool}) {
    Engine engine(kModel, variant);
    const auto got = run_all(engine, /*together=*/true);
    for (size_t i = 0; i < got.size(); ++i) {
      SCOPED_TRACE(kPrompts[i]);
      expect_same(expected[i], got[i]);
    }
    // Again, now from the prefix cache.
    const auto again = run_all(engine, /*together=*/true);
    for (size_t i = 0; i < again.size(); ++i) expect_same(expected[i], again[i]);
    if (variant.kv_bytes > 0) {
      EXPECT_GT(engine.stats().preemptions, 0);
    } else if (variant.prefix_cache) {
      EXPECT_GT(engine.stats().cached_tokens, 0);
    } else {
      EXPECT_EQ(engine.stats().cached_tokens, 0);
    }
  }
}

TEST_P(EngineTest, ScoresAgreeWithGeneration) {
  Engine engine(kModel, options(GetParam()));
  const auto generated = engine.generate(request(engine, kPrompts[1], 30)).get();
  endpoint::ScoreRequest score;
  score.context = engine.tokenizer().encode(kPrompts[1], {.add_special = true});
  score.continuation = generated.token_ids;
  const auto scored = engine.score(score).get();
  ASSERT_EQ(scored.tokens.size(), generated.token_ids.size());
  EXPECT_TRUE(scored.all_greedy());
  for (size_t i = 0; i < scored.tokens.size(); ++i)
    EXPECT_EQ(scored.tokens[i].logprob, generated.logprobs[i].logprob);
}

// More rows ask for logits than a step gives: the rest wait for the next one.
TEST_P(EngineTest, ManyScoresAreTheSameAsEachAlone) {
  Options wide = options(GetParam());
  wide.max_step_tokens = 2048;
  wide.prefix_cache = false;
  Engine engine(kModel, wide);
  const auto score_of = [](int32_t number) {
    endpoint::ScoreRequest score;
    score.context = {number + 3};
    for (int32_t i = 0; i < 490; ++i) score.continuation.push_back((i * 7 + number * 31) % 500);
    return score;
  };
  std::vector<endpoint::ScoreResult> alone;
  for (int32_t i = 0; i < 3; ++i) alone.push_back(engine.score(score_of(i)).get());
  std::vector<std::future<endpoint::ScoreResult>> together;
  for (int32_t i = 0; i < 3; ++i) together.push_back(engine.score(score_of(i)));
  for (size_t i = 0; i < 3; ++i) {
    const auto got = together[i].get();
    ASSERT_EQ(got.error, "");
    ASSERT_EQ(got.tokens.size(), 490u);
    for (size_t t = 0; t < got.tokens.size(); ++t)
      ASSERT_EQ(got.tokens[t].logprob, alone[i].tokens[t].logprob) << "token " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineTest, testing::ValuesIn(test_backends()));

TEST(Engine, StopStringsEndBeforeThemselves) {
  Engine engine(kModel, options());
  auto whole = request(engine, kPrompts[0], 60);
  const std::string text = engine.generate(whole).get().text;
  ASSERT_GT(text.size(), 40u);
  auto stopped = whole;
  const std::string stop = text.substr(17, 9);
  stopped.sampling.stop = {"never this", stop};
  std::string streamed;
  const auto result =
      engine.generate(stopped, [&](int32_t, std::string_view piece) { streamed += piece; }).get();
  EXPECT_EQ(result.finish, FinishReason::stop);
  EXPECT_EQ(result.text, text.substr(0, text.find(stop)));
  EXPECT_EQ(streamed, result.text);
}

// Nothing goes on from the last token: it takes no place, not even where the cache has none left.
TEST(Engine, ScoresOneTokenBeyondItsContext) {
  constexpr int64_t kContext = 32;
  Options small = options();
  small.max_context = kContext;
  small.max_batch = 1;
  Engine engine(kModel, small), wide(kModel, options());
  EXPECT_EQ(engine.info().score_tokens, kContext + 1);
  endpoint::ScoreRequest request;
  request.context = {1};
  for (int32_t i = 0; i < kContext; ++i) request.continuation.push_back(300 + i);
  const auto got = engine.score(request).get(), expected = wide.score(request).get();
  EXPECT_EQ(got.error, "");
  ASSERT_EQ(got.tokens.size(), static_cast<size_t>(kContext));
  EXPECT_EQ(got.sum(), expected.sum());
  request.continuation.push_back(5);
  EXPECT_EQ(engine.score(request).get().error, "33 tokens exceed the context of 32");
}

TEST(Engine, RefusesBadRequestsAlone) {
  Engine engine(kModel, options());
  auto bad = request(engine, kPrompts[0], 10);
  bad.prompt.push_back(512);
  EXPECT_EQ(engine.generate(bad).get().finish, FinishReason::error);
  bad.prompt.back() = -1;
  EXPECT_EQ(engine.generate(bad).get().finish, FinishReason::error);
  auto too_long = request(engine, kPrompts[0], 100000);
  const GenerateResult refused = engine.generate(too_long).get();
  EXPECT_NE(refused.error.find("context"), std::string::npos);
  EXPECT_TRUE(refused.refused);
  GenerateRequest empty;
  EXPECT_EQ(engine.generate(empty).get().finish, FinishReason::error);
  EXPECT_EQ(engine.generate(request(engine, kPrompts[0], 5)).get().token_ids.size(), 5u);
}

TEST(Engine, CancelledRequestsEnd) {
  Engine engine(kModel, options());
  std::stop_source source;
  auto long_one = request(engine, kPrompts[0], 400);
  long_one.cancel = source.get_token();
  auto future =
      engine.generate(long_one, [&](int32_t, std::string_view) { source.request_stop(); });
  const auto result = future.get();
  EXPECT_EQ(result.finish, FinishReason::cancelled);
  EXPECT_LT(result.token_ids.size(), 400u);
}

// A device that breaks makes steps throw (tests/device_error_gpu_test.cc breaks one).
TEST(Engine, AStepThatFailsEndsItWithTheError) {
  setenv("NARROW_FAULT", "engine.step:eio:20", 1);
  {
    Engine engine(kModel, options());
    EXPECT_EQ(engine.generate(request(engine, kPrompts[0], 5)).get().token_ids.size(), 5u);
    EXPECT_EQ(engine.failure(), "");
    std::vector<std::future<GenerateResult>> under_way;
    for (const std::string& prompt : kPrompts)
      under_way.push_back(engine.generate(request(engine, prompt, 100)));
    const std::string error = under_way.front().get().error;
    EXPECT_EQ(error, engine.failure());
    EXPECT_NE(error.find("Input/output error"), std::string::npos) << error;
    for (size_t i = 1; i < under_way.size(); ++i) {
      const GenerateResult result = under_way[i].get();
      EXPECT_EQ(result.finish, FinishReason::error);
      EXPECT_EQ(result.error, error);
    }
    const GenerateResult later = engine.generate(request(engine, kPrompts[0], 5)).get();
    EXPECT_EQ(later.error, error);
    EXPECT_FALSE(later.refused);
    endpoint::ScoreRequest score;
    score.context = score.continuation = engine.tokenizer().encode(kPrompts[0], {});
    EXPECT_EQ(engine.score(score).get().error, error);
  }
  unsetenv("NARROW_FAULT");
}

TEST(BlockPool, KeepsAccount) {
  BlockPool pool(3);
  const auto a = pool.allocate(), b = pool.allocate(), c = pool.allocate();
  EXPECT_FALSE(pool.allocate().has_value());
  const int32_t tokens[] = {1, 2, 3};
  const BlockHash hash = block_hash("", tokens, 3);
  pool.publish(*a, hash);
  pool.release(*a);
  EXPECT_EQ(pool.find(hash), a);  // still known while nobody took the block
  pool.release(*a);
  pool.release(*b);
  EXPECT_TRUE(pool.consistent());
  EXPECT_EQ(pool.allocate(), a);  // the least recently used goes first and is forgotten
  EXPECT_FALSE(pool.find(hash).has_value());
  pool.release(*c);
  EXPECT_TRUE(pool.consistent());
  EXPECT_NE(block_hash(hash, tokens, 3), hash);
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<float> logits = {0.0f, std::log(3.0f), -100.0f, std::log(6.0f)};
  endpoint::Sampling sampling;
  const auto sample = [&](int64_t index) { return ops::choose(logits, query_of(sampling, index)); };
  EXPECT_EQ(sample(0), 3);
  sampling.temperature = 1;
  sampling.seed = 5;
  std::vector<int64_t> counts(4, 0);
  constexpr int64_t kDraws = 20000;
  for (int64_t i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sample(i))];
  // Four standard deviations of a share of n draws.
  const auto near = [&](int64_t count, double share) {
    const double n = kDraws;
    return std::abs(static_cast<double>(count) / n - share) <
           4 * std::sqrt(share * (1 - share) / n);
  };
  EXPECT_TRUE(near(counts[0], 0.1));
  EXPECT_TRUE(near(counts[1], 0.3));
  EXPECT_EQ(counts[2], 0);
  EXPECT_TRUE(near(counts[3], 0.6));
  sampling.top_k = 1;
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(sample(i), 3);
  sampling.top_k = 0;
  sampling.top_p = 0.85;  // 0.6 + 0.3 are needed
  for (int64_t i = 0; i < 200; ++i) EXPECT_NE(sample(i), 0);
}

}  // namespace
}  // namespace narrow::engine
