// Scores of Arena-Hard v0.1 from a judge's verdicts, by the formulas of lmarena/arena-hard-auto
// (commit ff46f0a: gen_judgment.py, show_result.py, utils_math.py, add_markdown_info.py). Pure.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace narrow::evaluate {

// The label of a judgment: "A>>B", "A>B", "A=B", "B>A", "B>>A", or whatever stands in its place.
struct ArenaVerdict {
  std::string label;       // empty: none, or several that differ
  bool ask_again = false;  // there was none at all
};
ArenaVerdict read_verdict(const std::string& judgment);

// How an answer looks.
struct ArenaStyle {
  int64_t tokens = 0, headers = 0, lists = 0, bold = 0;
};
// All but the tokens; code blocks are left out as the original does.
ArenaStyle markdown_style(const std::string& answer);

// One question's two games. In the first the baseline is A, in the second the model.
struct ArenaGames {
  std::array<std::string, 2> labels;
  ArenaStyle baseline, model;
};

enum class ArenaWinner { baseline, model, tie };
struct ArenaBattle {
  ArenaWinner winner;
  size_t question;
};
// A strong verdict counts as `strong_weight` battles; a game without one of the five labels as
// none.
std::vector<ArenaBattle> arena_battles(const std::vector<ArenaGames>& games, int strong_weight);

// Expected win rate against the baseline in percent: 100 / (1 + 10^((R_base - R) / 400)) of the
// Bradley-Terry ratings; the baseline has 50.
struct ArenaScore {
  double score = 0, low = 0, high = 0;  // 95 %, percentiles of the resampled ratings
  // Weights of tokens, headers, lists and bold, with style control.
  std::optional<std::array<double, 4>> style;
};

// Ratings of maximum likelihood. Every battle is against the baseline, so that the win rate is the
// share of battles won, a tie half; a share of 0 or 1 has no finite rating and is scored so.
// Battles are resampled with NumPy's legacy generator, in the original's order. REQUIRES: battles.
ArenaScore arena_score(const std::vector<ArenaBattle>& battles, int rounds, uint32_t seed);

// The same with the styles' differences as further features of a logistic regression with
// scikit-learn's default penalty (L2, C = 1), minimized as far as doubles go; the original stops at
// a gradient of 1e-4, some thousandths of a point away.
ArenaScore arena_score_style(const std::vector<ArenaBattle>& battles,
                             const std::vector<ArenaGames>& games, int rounds, uint32_t seed);

// Share of questions whose two games name the same winner, of those with two verdicts: what the
// position does to the judge. None without any.
std::optional<double> game_agreement(const std::vector<ArenaGames>& games);

}  // namespace narrow::evaluate
