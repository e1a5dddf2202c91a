#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <iostream>
#include <map>
#include <sstream>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/hub.h"
#include "cli/model_or_endpoint.h"
#include "cli/verbs.h"
#include "engine/engine.h"
#include "evaluate/harness_task.h"
#include "evaluate/judge.h"
#include "evaluate/results.h"
#include "evaluate/ruler_task.h"
#include "evaluate/suite.h"
#include "store/store.h"

namespace narrow::cli {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string model, tasks, task_dir, data, output, show, rescore;
  EndpointFlags endpoint;
  int64_t limit = -1, shots = -1;
  bool chat = false, multiturn = true, list = false;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty() && std::find(parts.begin(), parts.end(), part) == parts.end())
      parts.push_back(part);
  return parts;
}

evaluate::Task load(const Arguments& arguments, const std::string& name) {
  if (!arguments.task_dir.empty()) {
    const auto own = evaluate::tasks_below(arguments.task_dir);
    const auto [first, last] = own.equal_range(name);
    if (first != last) {
      if (std::next(first) != last)
        throw Error::refused("the task \"" + name + "\" stands in two files",
                             first->second.string() + ", " + std::next(first)->second.string());
      return evaluate::load_task(first->second.string(), arguments.data);
    }
  }
  if (evaluate::ruler_length(name) > 0)
    throw Error::refused("RULER's samples are made for a tokenizer: without a model there are none",
                         "task " + name);
  return evaluate::load_task(name, arguments.data);
}

evaluate::RunOptions options_of(const Arguments& arguments,
                                const evaluate::TaskRequest& request = {}) {
  evaluate::RunOptions options;
  options.limit = request.limit;
  options.prompt.shots = request.shots;
  if (arguments.limit >= 0) options.limit = arguments.limit;
  if (arguments.shots >= 0) options.prompt.shots = arguments.shots;
  options.prompt.chat = arguments.chat;
  options.prompt.multiturn = arguments.multiturn;
  return options;
}

evaluate::Task make_ruler(const Arguments& arguments, const evaluate::TaskRequest& request,
                          const endpoint::Endpoint& engine) {
  return evaluate::make_ruler_task(
      request.name, evaluate::data_root(arguments.data), options_of(arguments, request).limit,
      {engine.tokenizer(), engine.chat_template(), arguments.chat, engine.info().context_tokens});
}

void list(const Arguments& arguments, const Globals& globals) {
  std::vector<std::string> names = evaluate::task_names();
  if (!arguments.task_dir.empty()) {
    for (const auto& [name, file] : evaluate::tasks_below(arguments.task_dir))
      names.push_back(name);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  }
  for (const std::string& name : evaluate::ruler_lengths()) names.push_back(name);
  const auto suites = data_file_names("suites");
  if (globals.json) {
    std::cout << Json{{"tasks", names}, {"suites", suites}}.dump(1) << "\n";
    return;
  }
  for (const std::string& name : names) std::cout << name << "\n";
  for (const std::string& name : suites) std::cout << name << " (suite)\n";
}

// The prompts as the model gets them; a chat template is the model's, so it needs one.
void show(const Arguments& arguments, const Globals& globals) {
  const evaluate::Task task = load(arguments, arguments.show);
  std::optional<engine::Engine> engine;
  if (arguments.chat) {
    if (arguments.model.empty())
      throw Error::refused("--show with --apply-chat-template needs a MODEL for its template");
    engine.emplace(checkpoint::resolve_model(arguments.model),
                   engine::Options{.backend = globals.backend, .threads = globals.threads});
  }
  const evaluate::Subtask& subtask = task.subtasks.front();
  evaluate::check_shots(task, options_of(arguments).prompt);
  evaluate::Prompter prompter(task, subtask, options_of(arguments).prompt,
                              engine ? &*engine : nullptr);
  const auto documents = std::min<size_t>(
      subtask.test.size(), arguments.limit >= 0 ? static_cast<size_t>(arguments.limit) : 3);
  for (size_t i = 0; i < documents; ++i) {
    const evaluate::Prompt prompt = prompter.next();
    if (globals.json) {
      std::cout << to_line({{"subtask", subtask.name},
                            {"doc_id", i},
                            {"contexts", prompt.contexts},
                            {"continuations", prompt.continuations},
                            {"target", prompt.target}})
                << "\n";
      continue;
    }
    std::cout << fmt::format("--- {} document {}\n", subtask.name, i);
    for (const std::string& context : prompt.contexts) std::cout << context << "\n---\n";
    for (const std::string& continuation : prompt.continuations)
      std::cout << "choice:" << continuation << "\n";
    std::cout << "target: " << prompt.target << "\n";
  }
}

// Rows go to a store in the output folder, so that a run that was stopped continues.
std::vector<Json> evaluate_task(const evaluate::Task& task, endpoint::Endpoint& engine,
                                const evaluate::RunOptions& options, store::Store& store) {
  const endpoint::Info& info = engine.info();
  const store::Cell cell{"eval",
                         info.format,
                         task.name,
                         {{"model_sha256", engine.fingerprint()},
                          {"backend", info.backend},
                          {"version", NARROW_VERSION},
                          {"task", evaluate::task_key(task, options)}}};
  store.add_cell(cell);
  std::set<int64_t> done;
  for (const store::Row& row : store.rows(cell)) done.insert(row.index);
  Progress progress("eval " + task.name, evaluate::document_count(task, options), "documents");
  progress.skip(static_cast<int64_t>(done.size()));
  evaluate::run(task, engine, options, done, [&](int64_t index, Json row) {
    store.append(cell, {index, std::move(row)});
    progress.advance();
  });
  store.finish_cell(cell);
  std::vector<Json> rows;
  for (store::Row& row : store.rows(cell)) rows.push_back(std::move(row.data));
  return rows;
}

void print_scores(const Json& results) {
  for (const auto& [name, entry] : results.items()) {
    for (const auto& [metric, value] : entry.items()) {
      const size_t comma = metric.find(',');
      if (comma == std::string::npos || metric.substr(0, comma).ends_with("_stderr")) continue;
      std::string error_key = metric;
      error_key.insert(comma, "_stderr");
      const Json& error = entry.at(error_key);
      std::cout << fmt::format("{:<36} {:<30} {:.4f} ± {}  ({} documents)\n", name, metric,
                               value.get<double>(),
                               error.is_number() ? fmt::format("{:.4f}", error.get<double>()) : "–",
                               entry["sample_len"].get<int64_t>());
    }
    if (entry.contains("normalized_score"))
      std::cout << fmt::format("{:<36} {:<30} {:.2f}\n", name, "normalized, 0 to 100",
                               entry["normalized_score"].get<double>());
  }
}

// results.json, with the fields of `config`, and samples_*.jsonl.
void write_results(const fs::path& output, const std::vector<evaluate::Evaluated>& evaluated,
                   const Json& config, const Globals& globals) {
  fs::create_directories(output);
  for (const auto& of : evaluated)
    for (const evaluate::Subtask& subtask : of.task->subtasks)
      write_text(output / ("samples_" + subtask.name + ".jsonl"),
                 evaluate::samples_lines(*of.task, subtask, of.rows));
  Json document = evaluate::results_document(evaluated);
  document.update(config);
  write_text(output / "results.json", document.dump(1) + "\n");
  if (globals.json) {
    std::cout << document.dump(1) << "\n";
    return;
  }
  print_scores(document["results"]);
  const Json suites = document.value("suites", Json::object());
  for (const auto& [name, suite] : suites.items())
    std::cout << fmt::format("{:<36} {:<30} {:.2f}  ({} tasks)\n", name, "average",
                             suite["average"].get<double>(), suite["tasks"].size());
}

// Scores what eval.db of a folder holds again, as the task files are now. The answers of the model
// that was asked last count, of each task the cell that was finished last.
void rescore(const Arguments& arguments, const Globals& globals) {
  const fs::path folder = arguments.rescore;
  if (!fs::is_regular_file(folder / "eval.db"))
    throw Error::refused("no eval.db", folder.string(), "name the output folder of narrow eval");
  const store::Store store(folder / "eval.db");
  const auto wanted = split(arguments.tasks);
  std::vector<store::Cell> cells;
  for (const store::Cell& cell : store.cells())
    if (cell.kind == "eval" && store.finished(cell)) cells.push_back(cell);
  if (cells.empty()) throw Error::refused("no task was finished", folder.string());
  const store::Cell last = cells.back();
  std::map<std::string, store::Cell> latest;
  for (const store::Cell& cell : cells)
    if (cell.key["model_sha256"] == last.key["model_sha256"] &&
        (wanted.empty() || std::find(wanted.begin(), wanted.end(), cell.name) != wanted.end()))
      latest[cell.name] = cell;
  if (latest.empty()) throw Error::refused("none of these tasks was finished", folder.string());
  std::deque<evaluate::Task> tasks;
  std::vector<evaluate::Evaluated> evaluated;
  for (const auto& [name, cell] : latest) {
    const evaluate::Task& task = tasks.emplace_back(load(arguments, name));
    const Json key = json_get<Json>(cell.key, "task", folder.string());
    if (json_get<std::string>(key, "data_sha256", folder.string()) != task.data_sha256)
      throw Error::refused("the data are not those the answers were given to", "task " + name,
                           "give their folder with --data");
    evaluate::RunOptions options;
    options.prompt.shots = json_get<int64_t>(key, "shots", folder.string());
    if (!key["limit"].is_null()) options.limit = key["limit"].get<int64_t>();
    options.prompt.chat = json_get<bool>(key, "chat", folder.string());
    options.prompt.multiturn = json_get<bool>(key, "multiturn", folder.string());
    std::vector<Json> rows;
    for (store::Row& row : store.rows(cell)) rows.push_back(std::move(row.data));
    evaluated.push_back({&task, options, "", evaluate::rescore(task, std::move(rows))});
  }
  const Json config{{"config",
                     {{"format", last.format},
                      {"backend", last.key["backend"]},
                      {"model_sha256", last.key["model_sha256"]},
                      {"narrow", NARROW_VERSION},
                      {"rescored", true}}},
                    {"model_source", "narrow"}};
  write_results(arguments.output.empty() ? folder : fs::path(arguments.output), evaluated, config,
                globals);
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.list) return list(arguments, globals);
  if (!arguments.show.empty()) return show(arguments, globals);
  if (!arguments.rescore.empty()) return rescore(arguments, globals);
  const auto requests = evaluate::expand_ruler(evaluate::expand_suites(split(arguments.tasks)));
  if ((arguments.model.empty() && !arguments.endpoint.used()) || requests.empty())
    throw Error::refused("give a MODEL and --tasks, or --list");
  std::vector<std::optional<evaluate::Task>> tasks(requests.size());
  client::Client::Needs needs{.token_ids = true};
  for (size_t i = 0; i < requests.size(); ++i) {
    if (evaluate::ruler_length(requests[i].name) > 0) continue;  // once the model is open
    tasks[i] = load(arguments, requests[i].name);
    evaluate::check_shots(*tasks[i], options_of(arguments, requests[i]).prompt);
    needs.scores = needs.scores || tasks[i]->kind != evaluate::Task::Kind::generate;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto opened = open_model_or_endpoint(arguments.model, arguments.endpoint, globals, needs);
  endpoint::Endpoint& engine = *opened;
  for (size_t i = 0; i < requests.size(); ++i)
    if (!tasks[i]) tasks[i] = make_ruler(arguments, requests[i], engine);
  const fs::path output = arguments.output.empty() ? "out/eval" : arguments.output;
  fs::create_directories(output);
  std::vector<evaluate::Evaluated> evaluated;
  {
    store::Store store(output / "eval.db");
    for (size_t i = 0; i < tasks.size(); ++i) {
      const auto options = options_of(arguments, requests[i]);
      evaluated.push_back({&*tasks[i], options, requests[i].suite,
                           evaluate_task(*tasks[i], engine, options, store)});
    }
  }
  const Json config{
      {"config",
       {{"model", engine.info().model},
        {"format", engine.info().format},
        {"backend", engine.info().backend},
        {"model_sha256", engine.fingerprint()},
        {"limit", arguments.limit >= 0 ? Json(arguments.limit) : Json()},
        {"narrow", NARROW_VERSION}}},
      {"model_source", "narrow"},
      {"model_name", engine.info().model},
      {"apply_chat_template", arguments.chat},
      {"fewshot_as_multiturn", arguments.chat && arguments.multiturn},
      {"total_evaluation_time_seconds",
       fmt::format(
           "{:.3f}",
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count())}};
  write_results(output, evaluated, config, globals);
}

}  // namespace

void add_eval(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("eval", "score a model on tasks");
  verb->footer(
      "Examples:\n  narrow eval --list\n  narrow eval --show gsm8k\n"
      "  narrow eval MODEL --tasks arc_challenge,mmlu --limit 100 -o out/eval\n"
      "  narrow eval MODEL --tasks mmlu_anatomy,mmlu_stem --num-fewshot 5\n"
      "  narrow eval MODEL --tasks leaderboard-v1 -o out/eval\n"
      "  narrow eval MODEL --tasks ruler_4k,ruler_8k_vt --limit 50 --data FOLDER\n"
      "  narrow eval --endpoint http://HOST:8000 --model NAME --tokenizer DIR --tasks gsm8k\n"
      "  narrow eval --rescore out/eval\n"
      "Run it again to continue; finished documents are kept in eval.db of the output folder.");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name");
  verb->add_option(
      "--tasks", arguments->tasks,
      "names, parted by commas; a subject or group of a task and a suite are some too");
  verb->add_flag("--list", arguments->list, "print the tasks and suites there are");
  verb->add_option("--show", arguments->show, "print the first prompts of a task");
  verb->add_option("--limit", arguments->limit, "documents of each task or subject")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--num-fewshot", arguments->shots, "examples before each question")
      ->check(CLI::Range(0, 1000));
  verb->add_flag("--apply-chat-template", arguments->chat, "through the model's chat template");
  verb->add_flag("--fewshot-as-multiturn,!--no-fewshot-as-multiturn", arguments->multiturn,
                 "behind a chat template each example is a turn (the default)");
  verb->add_option("--task-dir", arguments->task_dir,
                   "a folder of your own task files, or lm-evaluation-harness's")
      ->check(CLI::ExistingDirectory);
  verb->add_option("--data", arguments->data, "folder of the data sets; default data/eval")
      ->check(CLI::ExistingDirectory);
  verb->add_option("--rescore", arguments->rescore,
                   "score the answers in this output folder again, asking nothing")
      ->check(CLI::ExistingDirectory);
  verb->add_option("-o,--output", arguments->output,
                   "folder of results.json and samples; default out/eval, of --rescore its folder");
  add_endpoint_flags(*verb, arguments->endpoint);
  add_globals(*verb, globals);
  add_kv_cache_flag(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
