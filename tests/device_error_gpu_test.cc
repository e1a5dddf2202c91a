// A device that breaks while an engine runs on it: requests end with the error's name, nothing
// waits for ever, and a study keeps its rows.
#include <chrono>

#include "base/error.h"
#include "break_device.h"
#include "engine/engine.h"
#include "study_fixture.h"

namespace narrow {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kSoon(10);

bool names(const std::string& text, const std::string& error) {
  return text.find(error) != std::string::npos;
}

// First: a process that has used a device cannot fork.
TEST_F(StudyTest, ABrokenDeviceLosesNoRows) {
  settings_.backend = "cuda";
  const fs::path whole = root_ / "whole", broken = root_ / "broken";
  ASSERT_EQ(run_in_child(whole, ""), 0);
  const auto expected = rows(whole);
  // Between the two formats' engines; there is no other instant that can be seen from outside.
  const auto break_it = [&] {
    while (!fs::exists(broken / "checkpoints/w8a8-fp"))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    break_device();
  };
  const int status = run_in_child(broken, "", break_it);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_NE(WEXITSTATUS(status), 0);
  EXPECT_TRUE(names(read_text(root_ / "error"), "cudaError")) << read_text(root_ / "error");
  size_t kept = 0;
  {
    const store::Store store(broken / "study.db");
    for (const store::Cell& cell : store.cells())
      if (cell.format == "bf16" && store.finished(cell)) kept += store.rows(cell).size();
  }
  EXPECT_GE(kept, 4u + 4 + 3);
  ASSERT_EQ(run_in_child(broken, ""), 0);
  EXPECT_EQ(rows(broken), expected);
}

TEST(DeviceError, EndsTheEngineWithItsName) {
  const std::string model = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k";
  engine::Options options;
  options.backend = "cuda";
  auto engine = std::make_unique<engine::Engine>(model, options);
  endpoint::GenerateRequest request;
  request.prompt = engine->tokenizer().encode("Once upon a time", {.add_special = true});
  request.sampling.max_tokens = 20;
  request.sampling.ignore_eos = true;
  const endpoint::GenerateResult whole = engine->generate(request).get();
  ASSERT_EQ(whole.error, "");
  ASSERT_EQ(whole.token_ids.size(), 20u);

  // At its third token, another request under way with it.
  request.sampling.max_tokens = 400;
  std::string error;
  std::vector<std::future<endpoint::GenerateResult>> generations;
  generations.push_back(engine->generate(request));
  generations.push_back(engine->generate(request, [&, tokens = 0](int32_t, auto) mutable {
    if (++tokens == 3) error = break_device();
  }));
  for (auto& generation : generations)
    ASSERT_EQ(generation.wait_for(kSoon), std::future_status::ready);
  std::printf("the device: %s\nthe engine: %s\n", error.c_str(), engine->failure().c_str());
  ASSERT_TRUE(error.starts_with("cudaError")) << error;
  EXPECT_TRUE(names(engine->failure(), error));

  endpoint::ScoreRequest score;
  score.context = score.continuation = request.prompt;
  std::vector<std::future<endpoint::ScoreResult>> scores;
  for (int i = 0; i < 5; ++i) {
    generations.push_back(engine->generate(request));
    scores.push_back(engine->score(score));
  }
  for (auto& generation : generations) {
    ASSERT_EQ(generation.wait_for(kSoon), std::future_status::ready);
    const endpoint::GenerateResult result = generation.get();
    EXPECT_EQ(result.finish, endpoint::FinishReason::error);
    EXPECT_TRUE(names(result.error, error)) << result.error;
  }
  for (auto& one : scores) {
    ASSERT_EQ(one.wait_for(kSoon), std::future_status::ready);
    const endpoint::ScoreResult result = one.get();
    EXPECT_TRUE(result.tokens.empty());
    EXPECT_TRUE(names(result.error, error)) << result.error;
  }

  const auto start = steady_clock::now();
  engine.reset();
  EXPECT_LT(steady_clock::now() - start, kSoon);
  try {
    engine::Engine(model, options);
    FAIL() << "an engine on a broken device";
  } catch (const Error& refusal) {
    EXPECT_TRUE(names(refusal.what(), error)) << refusal.what();
  }
}

}  // namespace
}  // namespace narrow
