#include "evaluate/arena_judge.h"

#include <algorithm>
#include <deque>
#include <map>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/wait.h"

namespace narrow::evaluate {
namespace {

// Conversations in flight: more than a client's connections or an engine's batch hold.
constexpr size_t kInFlight = 128;

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string id_of(const Json& row, const std::string& where) {
  return text_of(json_get<Json>(row, row.contains("uid") ? "uid" : "question_id", where));
}

// "messages" of the newer files, whose content may be wrapped, or "choices" of the older.
std::string answer_of(const Json& row, const std::string& where) {
  if (row.contains("choices")) {
    const auto choices = json_get<std::vector<Json>>(row, "choices", where);
    const auto turns = choices.empty() ? std::vector<Json>()
                                       : json_get<std::vector<Json>>(choices[0], "turns", where);
    if (turns.empty()) throw Error::refused("an answer without turns", where);
    return json_get<std::string>(turns[0], "content", where);
  }
  for (const Json& message : json_get<std::vector<Json>>(row, "messages", where)) {
    if (json_get<std::string>(message, "role", where) != "assistant") continue;
    const Json content = json_get<Json>(message, "content", where);
    return content.is_string() ? content.get<std::string>()
                               : json_get<std::string>(content, "answer", where);
  }
  throw Error::refused("no answer of the assistant", where);
}

// Throws Error::failed for what may go well another time.
endpoint::GenerateResult finished(std::future<endpoint::GenerateResult>& future,
                                  const std::string& what) {
  auto result = wait_for(future);
  if (result.finish == endpoint::FinishReason::error && !result.refused)
    throw Error::failed(result.error, what);
  return result;
}

std::future<endpoint::GenerateResult> ask(endpoint::Endpoint& endpoint, const std::string& id,
                                          const Json& messages, int64_t tokens) {
  endpoint::ChatRequest request;
  request.id = id;
  request.messages = messages;
  request.sampling.max_tokens = tokens;  // greedy: temperature 0
  return endpoint.chat(std::move(request));
}

// One pass, so that an answer that holds "{answer_2}" stays as it is.
std::string filled(const std::string& text, const std::map<std::string, std::string>& values) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto value = std::find_if(values.begin(), values.end(), [&](const auto& item) {
      return text.compare(i, item.first.size(), item.first) == 0;
    });
    if (value == values.end()) {
      result += text[i];
    } else {
      result += value->second;
      i += value->first.size() - 1;
    }
  }
  return result;
}

struct Game {
  Json messages;
  std::string judgment;
  std::future<endpoint::GenerateResult> reply;
};

Json judged(Game& game, const ArenaSettings& settings, endpoint::Endpoint& judge,
            const std::string& id) {
  ArenaVerdict verdict;
  std::string refusal;
  for (int attempt = 1; attempt <= settings.attempts; ++attempt) {
    const auto reply = finished(game.reply, "judgment of question " + id);
    if (reply.refused) {
      refusal = reply.error;
      break;
    }
    game.judgment += "\n" + reply.text;
    verdict = read_verdict(game.judgment);
    if (!verdict.ask_again || attempt == settings.attempts) break;
    game.messages.push_back({{"role", "assistant"}, {"content", reply.text}});
    game.messages.push_back({{"role", "user"}, {"content", settings.go_on}});
    game.reply = ask(judge, id, game.messages, settings.judge_tokens);
  }
  Json row{{"user_prompt", game.messages[1]["content"]},
           {"judgment", game.judgment},
           {"score", verdict.label.empty() ? Json() : Json(verdict.label)}};
  if (!refusal.empty()) row["refused"] = refusal;
  return row;
}

}  // namespace

ArenaSettings read_arena_settings() {
  const auto path = data_folder("tasks/arena_hard") / "judge.yaml";
  const std::string where = path.string();
  const Json yaml = read_yaml(path);
  const auto text = [&](const char* key) { return json_get<std::string>(yaml, key, where); };
  ArenaSettings settings;
  settings.version = text("version");
  settings.judge = text("judge");
  settings.baseline = text("baseline");
  settings.system = text("system");
  settings.prompt = text("prompt");
  settings.go_on = text("go_on");
  settings.answer_tokens = json_get<int64_t>(yaml, "answer_tokens", where);
  settings.judge_tokens = json_get<int64_t>(yaml, "judge_tokens", where);
  settings.attempts = json_get<int>(yaml, "attempts", where);
  settings.strong_weight = json_get<int>(yaml, "strong_weight", where);
  settings.rounds = json_get<int>(yaml, "bootstrap_rounds", where);
  settings.seed = json_get<uint32_t>(yaml, "bootstrap_seed", where);
  settings.yaml_sha256 = sha256_file(path);
  return settings;
}

std::vector<ArenaQuestion> read_arena_questions(const std::string& questions,
                                                const std::string& baseline, int64_t limit) {
  std::map<std::string, std::string> answers;
  for_each_json_line(baseline, [&](Json&& row, int64_t line) {
    const std::string where = baseline + ":" + std::to_string(line);
    answers[id_of(row, where)] = answer_of(row, where);
  });
  std::vector<ArenaQuestion> list;
  for_each_json_line(questions, [&](Json&& row, int64_t line) {
    if (static_cast<int64_t>(list.size()) >= limit) return;
    const std::string where = questions + ":" + std::to_string(line);
    ArenaQuestion question;
    question.id = id_of(row, where);
    if (row.contains("turns")) {
      const auto turns = json_get<std::vector<Json>>(row, "turns", where);
      if (turns.size() != 1) throw Error::refused("a question of one turn is wanted", where);
      question.prompt = json_get<std::string>(turns[0], "content", where);
    } else {
      question.prompt = json_get<std::string>(row, "prompt", where);
    }
    const auto answer = answers.find(question.id);
    if (answer == answers.end())
      throw Error::refused("the baseline has no answer to question " + question.id, baseline);
    question.baseline = answer->second;
    list.push_back(std::move(question));
  });
  if (list.empty()) throw Error::refused("no questions", questions);
  return list;
}

void answer_arena(const std::vector<ArenaQuestion>& questions, const ArenaSettings& settings,
                  endpoint::Endpoint& model, const std::set<int64_t>& done, const ArenaSink& sink) {
  std::deque<std::pair<int64_t, std::future<endpoint::GenerateResult>>> in_flight;
  const auto finish_one = [&] {
    const int64_t index = in_flight.front().first;
    const ArenaQuestion& question = questions[static_cast<size_t>(index)];
    const auto result = finished(in_flight.front().second, "question " + question.id);
    if (result.refused) throw Error::failed(result.error, "question " + question.id);
    in_flight.pop_front();
    sink(index, {{"question_id", question.id},
                 {"answer", result.text},
                 {"finish", endpoint::name_of(result.finish)}});
  };
  for (size_t i = 0; i < questions.size(); ++i) {
    if (done.contains(static_cast<int64_t>(i))) continue;
    if (in_flight.size() >= kInFlight) finish_one();
    in_flight.emplace_back(static_cast<int64_t>(i),
                           ask(model, questions[i].id,
                               Json::array({{{"role", "user"}, {"content", questions[i].prompt}}}),
                               settings.answer_tokens));
  }
  while (!in_flight.empty()) finish_one();
}

void judge_arena(const std::vector<ArenaQuestion>& questions,
                 const std::vector<std::string>& answers, const ArenaSettings& settings,
                 endpoint::Endpoint& judge, const std::set<int64_t>& done, const ArenaSink& sink) {
  struct Judged {
    int64_t index;
    std::vector<Game> games;
  };
  std::deque<Judged> in_flight;
  const auto finish_one = [&] {
    Judged& of = in_flight.front();
    const auto index = static_cast<size_t>(of.index);
    Json games = Json::array();
    for (Game& game : of.games) games.push_back(judged(game, settings, judge, questions[index].id));
    sink(of.index, {{"question_id", questions[index].id},
                    {"answer", answers[index]},
                    {"games", std::move(games)}});
    in_flight.pop_front();
  };
  for (size_t i = 0; i < questions.size(); ++i) {
    if (done.contains(static_cast<int64_t>(i))) continue;
    if (in_flight.size() >= kInFlight) finish_one();
    Judged of{static_cast<int64_t>(i), {}};
    for (const bool swapped : {false, true}) {
      const std::string user =
          filled(settings.prompt, {{"{question_1}", questions[i].prompt},
                                   {"{answer_1}", swapped ? answers[i] : questions[i].baseline},
                                   {"{answer_2}", swapped ? questions[i].baseline : answers[i]}});
      Game game{Json::array({{{"role", "system"}, {"content", settings.system}},
                             {{"role", "user"}, {"content", user}}}),
                "",
                {}};
      game.reply = ask(judge, questions[i].id, game.messages, settings.judge_tokens);
      of.games.push_back(std::move(game));
    }
    in_flight.push_back(std::move(of));
  }
  while (!in_flight.empty()) finish_one();
}

int64_t refused_games(const std::vector<Json>& rows) {
  int64_t count = 0;
  for (const Json& row : rows)
    for (const Json& game : row.value("games", Json::array())) count += game.contains("refused");
  return count;
}

std::vector<ArenaGames> arena_games(const std::vector<ArenaQuestion>& questions,
                                    const std::vector<Json>& rows,
                                    const std::function<int64_t(const std::string&)>& tokens) {
  const auto style = [&](const std::string& answer) {
    ArenaStyle look = markdown_style(answer);
    look.tokens = tokens(answer);
    return look;
  };
  std::vector<ArenaGames> games;
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string where = "question " + questions[i].id;
    const auto of_row = json_get<std::vector<Json>>(rows[i], "games", where);
    if (of_row.size() != 2) throw Error::refused("two games are expected", where);
    ArenaGames of;
    for (size_t game = 0; game < 2; ++game)
      of.labels[game] = json_get<std::string>(of_row[game], "score", where, "");
    of.baseline = style(questions[i].baseline);
    of.model = style(json_get<std::string>(rows[i], "answer", where));
    games.push_back(std::move(of));
  }
  return games;
}

}  // namespace narrow::evaluate
