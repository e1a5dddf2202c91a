// Arena-Hard v0.1: an answer to each question, and a judge's verdict on it against the baseline's,
// twice with positions swapped, asked as lmarena/arena-hard-auto asks
// (tasks/arena_hard/judge.yaml). Model and judge may be any Endpoint.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "endpoint/endpoint.h"
#include "evaluate/arena_score.h"

namespace narrow::evaluate {

struct ArenaSettings {
  std::string version, judge, baseline;  // of the published board
  std::string system, prompt, go_on;
  int64_t answer_tokens = 0, judge_tokens = 0;
  int attempts = 0, strong_weight = 0, rounds = 0;
  uint32_t seed = 0;
  std::string yaml_sha256;
};
ArenaSettings read_arena_settings();

struct ArenaQuestion {
  std::string id, prompt;
  std::string baseline;  // its answer
};

// questions: JSON lines with "uid" and "prompt", or "question_id" and "turns". baseline: JSON lines
// with the same ids and "messages", or "choices". The first `limit`. Throws Error::refused for a
// question without an answer of the baseline.
std::vector<ArenaQuestion> read_arena_questions(const std::string& questions,
                                                const std::string& baseline, int64_t limit);

using ArenaSink = std::function<void(int64_t index, Json row)>;

// Greedy answers through the model's chat template: rows with question_id and answer, in the order
// of the questions. Skips the indices in `done`. Throws Error::failed when one cannot be had.
void answer_arena(const std::vector<ArenaQuestion>& questions, const ArenaSettings& settings,
                  endpoint::Endpoint& model, const std::set<int64_t>& done, const ArenaSink& sink);

// Rows with question_id, answer and games: [{user_prompt, judgment, score}] as the original writes
// them. A game that the judge cannot take (GenerateResult::refused: longer than its context) has no
// score, like one without a verdict, and says why in "refused". answers: one for each question.
// Throws Error::failed where the judge fails otherwise.
void judge_arena(const std::vector<ArenaQuestion>& questions,
                 const std::vector<std::string>& answers, const ArenaSettings& settings,
                 endpoint::Endpoint& judge, const std::set<int64_t>& done, const ArenaSink& sink);

// Games of judged rows that the judge could not take.
int64_t refused_games(const std::vector<Json>& rows);

// Labels and styles of judged rows. tokens: length of an answer; the original counts by cl100k.
std::vector<ArenaGames> arena_games(const std::vector<ArenaQuestion>& questions,
                                    const std::vector<Json>& rows,
                                    const std::function<int64_t(const std::string&)>& tokens);

}  // namespace narrow::evaluate
