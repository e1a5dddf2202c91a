#include "evaluate/arena_score.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/json.h"

namespace narrow::evaluate {
namespace {

// What arena-hard-auto's own functions say (tests/goldens/arena/README.md).
const Json& golden() {
  static const Json document =
      parse_json(read_text_maybe_gz(std::filesystem::path(NARROW_SOURCE_DIR) /
                                    "tests/goldens/arena/arena.json.gz"),
                 "arena.json");
  return document;
}

ArenaStyle style_of(const Json& counts) {
  return {counts[0].get<int64_t>(), counts[1].get<int64_t>(), counts[2].get<int64_t>(),
          counts[3].get<int64_t>()};
}

std::vector<ArenaGames> games_of(const Json& run) {
  std::vector<ArenaGames> games;
  for (const Json& of : run["games"]) {
    ArenaGames one;
    for (size_t i = 0; i < 2; ++i)
      one.labels[i] = of["labels"][i].is_null() ? "" : of["labels"][i].get<std::string>();
    one.baseline = style_of(of["baseline"]);
    one.model = style_of(of["model"]);
    games.push_back(one);
  }
  return games;
}

void expect_rates(const ArenaScore& score, const Json& rates, double tolerance) {
  EXPECT_NEAR(score.score, rates[0].get<double>(), tolerance);
  EXPECT_NEAR(score.low, rates[1].get<double>(), tolerance);
  EXPECT_NEAR(score.high, rates[2].get<double>(), tolerance);
}

TEST(ArenaScore, EqualsTheOriginal) {
  for (const Json& run : golden()["runs"]) {
    const auto games = games_of(run);
    const auto battles = arena_battles(games, 3);
    EXPECT_EQ(static_cast<int64_t>(battles.size()), run["battles"].get<int64_t>());
    // Theirs is minimized to a gradient of 1e-8, ours in closed form.
    expect_rates(arena_score(battles, 100, 42), run["plain"], 1e-5);
    const ArenaScore styled = arena_score_style(battles, games, 100, 42);
    // "exact" is scikit-learn at a gradient of 1e-14 of the mean loss, which its line search does
    // not quite reach.
    expect_rates(styled, run["styled"]["exact"]["rates"], 1e-6);
    // A gradient of 1e-4 of the mean loss leaves a few thousandths of a point.
    expect_rates(styled, run["styled"]["default"]["rates"], 0.01);
    for (size_t i = 0; i < 4; ++i)
      EXPECT_NEAR((*styled.style)[i], run["styled"]["exact"]["style"][i].get<double>(), 1e-7);
  }
}

TEST(ArenaScore, CountsMarkdownAsTheOriginal) {
  for (const Json& answer : golden()["answers"]) {
    const auto text = answer["text"].get<std::string>();
    const ArenaStyle style = markdown_style(text);
    EXPECT_EQ((std::vector<int64_t>{style.headers, style.lists, style.bold}),
              answer["looks"].get<std::vector<int64_t>>())
        << text;
  }
}

TEST(ArenaScore, ReadsVerdictsAsTheOriginal) {
  for (const Json& judgment : golden()["judgments"]) {
    const auto text = judgment["text"].get<std::string>();
    const ArenaVerdict verdict = read_verdict(text);
    EXPECT_EQ(verdict.label,
              judgment["score"].is_null() ? "" : judgment["score"].get<std::string>())
        << text;
    EXPECT_EQ(verdict.ask_again, judgment["again"].get<bool>()) << text;
  }
}

TEST(ArenaScore, KnowsTheEnds) {
  const std::vector<ArenaGames> won(5, {{"B>>A", "A>B"}, {}, {}});
  const ArenaScore score = arena_score(arena_battles(won, 3), 100, 42);
  EXPECT_EQ(score.score, 100);
  EXPECT_EQ(score.low, 100);
  EXPECT_EQ(score.high, 100);
  EXPECT_LT(arena_score_style(arena_battles(won, 3), won, 10, 42).score, 100);  // the penalty
  EXPECT_EQ(game_agreement(won), 1.0);
  EXPECT_EQ(game_agreement({{{"A>B", "A>B"}, {}, {}}, {{"A>B", ""}, {}, {}}}), 0.0);
  EXPECT_EQ(game_agreement({}), std::nullopt);
}

}  // namespace
}  // namespace narrow::evaluate
