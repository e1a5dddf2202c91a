#include <fmt/format.h>

#include <cstdlib>
#include <iostream>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/model_or_endpoint.h"
#include "cli/verbs.h"
#include "evaluate/arena_judge.h"
#include "store/store.h"

namespace narrow::cli {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string model, judge, questions, baseline, data, output = "out/arena";
  EndpointFlags endpoint, judge_endpoint;
  int64_t limit = INT64_MAX;
};

fs::path data_of(const Arguments& arguments) {
  if (!arguments.data.empty()) return arguments.data;
  if (const char* set = std::getenv("NARROW_DATA_DIR")) return set;
  return fs::path(NARROW_SOURCE_DIR) / "data" / "eval";
}

// Rows of one cell, those already there skipped.
template <class Run>
std::vector<Json> rows_of(store::Store& store, const store::Cell& cell, size_t questions,
                          const Run& run) {
  store.add_cell(cell);
  std::set<int64_t> done;
  for (const store::Row& row : store.rows(cell)) done.insert(row.index);
  Progress progress("arena " + cell.name, static_cast<int64_t>(questions), "questions");
  progress.skip(static_cast<int64_t>(done.size()));
  run(done, [&](int64_t index, Json row) {
    store.append(cell, {index, std::move(row)});
    progress.advance();
  });
  store.finish_cell(cell);
  std::vector<Json> rows;
  for (store::Row& row : store.rows(cell)) rows.push_back(std::move(row.data));
  return rows;
}

std::string lines(const std::vector<Json>& rows) {
  std::string text;
  for (const Json& row : rows) text += to_line(row) + "\n";
  return text;
}

Json score_json(const evaluate::ArenaScore& score) {
  Json json{{"score", score.score}, {"low", score.low}, {"high", score.high}};
  if (score.style)
    json["coefficients"] = {{"tokens", (*score.style)[0]},
                            {"headers", (*score.style)[1]},
                            {"lists", (*score.style)[2]},
                            {"bold", (*score.style)[3]}};
  return json;
}

Json identity(const endpoint::Endpoint& endpoint) {
  return {{"model_sha256", endpoint.fingerprint()},
          {"backend", endpoint.info().backend},
          {"version", NARROW_VERSION}};
}

// Counts the tokens of answers for style control: by cl100k_base, as the original does, where
// scripts/fetch_data.py has brought it, otherwise by the model's tokenizer. A server's may be
// unknown: then there is none.
struct Lengths {
  std::optional<text::Tokenizer> cl100k;
  const text::Tokenizer* tokenizer = nullptr;
  std::string by;
};

Lengths lengths_by(const fs::path& folder, const endpoint::Endpoint& endpoint) {
  Lengths lengths;
  if (const fs::path file = folder / "cl100k" / "tokenizer.json"; fs::is_regular_file(file)) {
    lengths.cl100k = text::Tokenizer::from_json(read_text(file), "");
    lengths.by = "cl100k_base";
    return lengths;
  }
  try {
    lengths.tokenizer = &endpoint.tokenizer();
    lengths.by = "the model's tokenizer";
    log::warning(
        "style control counts lengths by the model's tokenizer, the published board by cl100k: "
        "scripts/fetch_data.py brings that");
  } catch (const Error&) {
    log::warning("no style control: the lengths of answers need cl100k (scripts/fetch_data.py)");
  }
  return lengths;
}

void run(const Arguments& arguments, const Globals& globals) {
  const evaluate::ArenaSettings settings = evaluate::read_arena_settings();
  const fs::path folder = data_of(arguments) / "arena_hard_v0.1";
  const std::string question_file =
      arguments.questions.empty() ? (folder / "question.jsonl").string() : arguments.questions;
  const std::string baseline_file =
      arguments.baseline.empty()
          ? (folder / "model_answer" / (settings.baseline + ".jsonl")).string()
          : arguments.baseline;
  const auto questions =
      evaluate::read_arena_questions(question_file, baseline_file, arguments.limit);
  const auto judge = open_model_or_endpoint(arguments.judge, arguments.judge_endpoint, globals, {});
  const auto model = open_model_or_endpoint(arguments.model, arguments.endpoint, globals, {});
  if (judge->info().model != settings.judge)
    log::warning(
        "the judge is {}: scores compare only with others of the same judge, not with the "
        "published board's ({})",
        judge->info().model, settings.judge);

  const fs::path output = arguments.output;
  fs::create_directories(output);
  std::vector<Json> answer_rows, rows;
  {
    store::Store store(output / "arena.db");
    Json key = identity(*model);
    key["settings_sha256"] = settings.yaml_sha256;
    key["questions_sha256"] = sha256_file(question_file);
    key["questions"] = questions.size();
    answer_rows = rows_of(store, {"arena", model->info().format, "answers", key}, questions.size(),
                          [&](const std::set<int64_t>& done, const evaluate::ArenaSink& sink) {
                            evaluate::answer_arena(questions, settings, *model, done, sink);
                          });
    std::vector<std::string> answers;
    for (const Json& row : answer_rows) answers.push_back(row["answer"].get<std::string>());
    key["judge"] = identity(*judge);
    key["baseline_sha256"] = sha256_file(baseline_file);
    key["answers_sha256"] =
        sha256_hex(Json(answers).dump(-1, ' ', false, Json::error_handler_t::replace));
    rows = rows_of(store, {"arena", model->info().format, "judgments", key}, questions.size(),
                   [&](const std::set<int64_t>& done, const evaluate::ArenaSink& sink) {
                     evaluate::judge_arena(questions, answers, settings, *judge, done, sink);
                   });
  }
  write_text(output / "answers.jsonl", lines(answer_rows));
  write_text(output / "judgments.jsonl", lines(rows));

  const int64_t refused = evaluate::refused_games(rows);
  if (refused > 0)
    log::warning(
        "{} of {} games have no verdict since the judge cannot take them (judgments.jsonl says "
        "why): a judge of a longer context is needed for them",
        refused, 2 * rows.size());

  const Lengths lengths = lengths_by(folder, *model);
  const text::Tokenizer* tokenizer = lengths.cl100k ? &*lengths.cl100k : lengths.tokenizer;
  const auto games = evaluate::arena_games(questions, rows, [&](const std::string& text) {
    return tokenizer ? static_cast<int64_t>(tokenizer->encode(text, {}).size()) : 0;
  });
  const auto battles = evaluate::arena_battles(games, settings.strong_weight);
  const auto agreement = evaluate::game_agreement(games);
  Json result{{"task", "arena-hard-" + settings.version},
              {"model", model->info().model},
              {"judge", judge->info().model},
              {"questions", questions.size()},
              {"battles", battles.size()},
              {"games_refused", refused},
              {"games_agree", agreement ? Json(*agreement) : Json()}};
  if (battles.empty()) {
    write_text(output / "arena.json", result.dump(1) + "\n");
    throw Error::failed("the judge gave no verdict that counts", judge->info().backend,
                        "read judgments.jsonl of the output folder");
  }
  const auto plain = evaluate::arena_score(battles, settings.rounds, settings.seed);
  result["win_rate"] = score_json(plain);
  if (tokenizer) {
    result["win_rate_style_control"] =
        score_json(evaluate::arena_score_style(battles, games, settings.rounds, settings.seed));
    result["lengths_by"] = lengths.by;
  } else {
    result["win_rate_style_control"] = nullptr;
  }
  write_text(output / "arena.json", result.dump(1) + "\n");
  if (globals.json) {
    std::cout << result.dump(1) << "\n";
    return;
  }
  for (const char* name : {"win_rate", "win_rate_style_control"})
    if (const Json& score = result[name]; !score.is_null())
      std::cout << fmt::format("{:<24} {:.1f} % (95 %: {:.1f} … {:.1f})\n", name,
                               score["score"].get<double>(), score["low"].get<double>(),
                               score["high"].get<double>());
  if (agreement)
    std::cout << fmt::format("{:<24} {:.1f} %\n", "both games agree", *agreement * 100);
}

}  // namespace

void add_arena(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb =
      app.add_subcommand("arena", "Arena-Hard v0.1: answers judged against a baseline's");
  verb->footer(
      "Example:\n  narrow arena MODEL --judge-endpoint https://HOST --judge-model NAME "
      "--judge-api-key-env KEY\n"
      "Run it again to continue; answers and judgments are kept in arena.db of the output folder.");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name");
  verb->add_option("--judge", arguments->judge, "a model run here as the judge");
  EndpointFlags& judge = arguments->judge_endpoint;
  CLI::Option* url =
      verb->add_option("--judge-endpoint", judge.url, "a server of the OpenAI API as the judge");
  CLI::Option* name =
      verb->add_option("--judge-model", judge.model, "what the server calls the judge");
  url->needs(name);
  name->needs(url);
  verb->add_option("--judge-api-key-env", judge.key_variable,
                   "environment variable with the judge's API key")
      ->needs(url);
  verb->add_option("--judge-concurrency", judge.concurrency, "requests in flight at the judge")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->needs(url);
  verb->add_option("--questions", arguments->questions, "JSON lines of questions");
  verb->add_option("--baseline", arguments->baseline, "JSON lines of the baseline's answers");
  verb->add_option("--data", arguments->data,
                   "folder that holds arena_hard_v0.1; default data/eval")
      ->check(CLI::ExistingDirectory);
  verb->add_option("--limit", arguments->limit, "questions taken")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("-o,--output", arguments->output, "folder of arena.json, answers, judgments")
      ->capture_default_str();
  add_endpoint_flags(*verb, arguments->endpoint);
  add_globals(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
