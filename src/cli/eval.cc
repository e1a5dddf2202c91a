#include <fmt/format.h>

#include <iostream>
#include <sstream>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/hub.h"
#include "cli/verbs.h"
#include "engine/engine.h"
#include "evaluate/run.h"

namespace narrow::cli {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string model, tasks, task_dir, data, output = "out/eval", show;
  int64_t limit = -1, shots = -1;
  bool chat = false, list = false;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

evaluate::Task load(const Arguments& arguments, const std::string& name) {
  const fs::path own = fs::path(arguments.task_dir) / (name + ".yaml");
  const bool from_dir = !arguments.task_dir.empty() && fs::is_regular_file(own);
  return evaluate::load_task(from_dir ? own.string() : name, arguments.data);
}

evaluate::RunOptions options_of(const Arguments& arguments) {
  evaluate::RunOptions options;
  if (arguments.limit >= 0) options.limit = arguments.limit;
  if (arguments.shots >= 0) options.prompt.shots = arguments.shots;
  options.prompt.chat = arguments.chat;
  return options;
}

void show(const Arguments& arguments) {
  const evaluate::Task task = load(arguments, arguments.show);
  const evaluate::Subtask& subtask = task.subtasks.front();
  evaluate::Prompter prompter(task, subtask, options_of(arguments).prompt, nullptr);
  for (int i = 0; i < 3 && i < static_cast<int>(subtask.test.size()); ++i) {
    const evaluate::Prompt prompt = prompter.next();
    std::cout << fmt::format("--- {} document {}\n", subtask.name, i);
    for (const std::string& context : prompt.contexts) std::cout << context << "\n---\n";
    for (const std::string& continuation : prompt.continuations)
      std::cout << "choice:" << continuation << "\n";
    std::cout << "target: " << prompt.target << "\n";
  }
}

// A row as lm-evaluation-harness logs it, one line per filter.
void write_samples(const evaluate::Task& task, const std::vector<Json>& rows,
                   const std::string& subtask, const fs::path& file) {
  std::string text;
  for (const Json& row : rows) {
    if (row["subtask"] != subtask) continue;
    const bool generated = row.contains("response");
    std::vector<std::string> filters;
    for (const evaluate::Filter& filter : task.filters) filters.push_back(filter.name);
    if (!generated) filters = {"none"};
    for (const std::string& filter : filters) {
      Json line{{"doc_id", row["doc_id"]}, {"target", row["target"]}};
      line["arguments"] = {{"prompt", row["prompt"]}, {"choices", row["choices"]}};
      if (generated) {
        line["resps"] = Json::array({Json::array({row["response"]})});
        line["filtered_resps"] = Json::array({row["answer"][filter]});
      } else {
        Json resps = Json::array();
        for (size_t i = 0; i < row["loglikelihoods"].size(); ++i)
          resps.push_back(Json::array({row["loglikelihoods"][i], row["is_greedy"][i]}));
        line["resps"] = resps;
        line["filtered_resps"] = resps;
      }
      line["filter"] = filter;
      Json metrics = Json::array();
      for (const auto& [name, value] : row["metrics"].items()) {
        const std::string suffix = "," + filter;
        if (generated && !name.ends_with(suffix)) continue;
        const std::string bare = generated ? name.substr(0, name.size() - suffix.size()) : name;
        metrics.push_back(bare);
        line[bare] = value;
      }
      line["metrics"] = metrics;
      line["doc_hash"] = row["doc_hash"];
      line["prompt_hash"] = row["prompt_hash"];
      line["target_hash"] = sha256_hex(row["target"].dump());
      text += to_line(line) + "\n";
    }
  }
  write_text(file, text);
}

void add_results(const evaluate::Task& task, const std::vector<Json>& rows, const std::string& name,
                 const std::string& subtask, Json& results) {
  Json entry{{"alias", name}};
  for (const evaluate::Score& score : evaluate::summarize(task, rows, subtask)) {
    const size_t comma = score.metric.find(',');
    const std::string metric = score.metric.substr(0, comma);
    const std::string filter = comma == std::string::npos ? "none" : score.metric.substr(comma + 1);
    entry[metric + "," + filter] = score.mean;
    entry[metric + "_stderr," + filter] = score.standard_error;
    entry["sample_len"] = score.documents;
  }
  results[name] = std::move(entry);
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.list) {
    for (const std::string& name : evaluate::task_names()) std::cout << name << "\n";
    return;
  }
  if (!arguments.show.empty()) return show(arguments);
  if (arguments.model.empty() || arguments.tasks.empty())
    throw Error::refused("give a MODEL and --tasks, or --list");
  const auto options = options_of(arguments);
  std::vector<evaluate::Task> tasks;
  for (const std::string& name : split(arguments.tasks)) tasks.push_back(load(arguments, name));
  engine::Engine engine(checkpoint::resolve_model(arguments.model),
                        {.backend = globals.backend, .threads = globals.threads});
  fs::create_directories(arguments.output);
  Json results = Json::object(), versions = Json::object(), shots = Json::object(),
       samples = Json::object();
  for (const evaluate::Task& task : tasks) {
    std::vector<Json> rows;
    {
      Progress progress("eval " + task.name, evaluate::document_count(task, options), "documents");
      evaluate::run(task, engine, options, {}, [&](int64_t, Json row) {
        rows.push_back(std::move(row));
        progress.advance();
      });
    }
    add_results(task, rows, task.name, "", results);
    for (const evaluate::Subtask& subtask : task.subtasks) {
      if (task.subtasks.size() > 1) add_results(task, rows, subtask.name, subtask.name, results);
      versions[subtask.name] = task.version;
      shots[subtask.name] = options.prompt.shots.value_or(task.shots);
      samples[subtask.name] = {{"original", subtask.test.size()},
                               {"effective", results[subtask.name]["sample_len"]}};
      write_samples(task, rows, subtask.name,
                    fs::path(arguments.output) / ("samples_" + subtask.name + ".jsonl"));
    }
  }
  const Json document{{"results", results},
                      {"versions", versions},
                      {"n-shot", shots},
                      {"n-samples", samples},
                      {"config",
                       {{"model", engine.info().model},
                        {"format", engine.info().format},
                        {"backend", engine.info().backend},
                        {"model_sha256", engine.info().fingerprint},
                        {"chat_template", arguments.chat}}}};
  write_text(fs::path(arguments.output) / "results.json", document.dump(1) + "\n");
  if (globals.json) {
    std::cout << document.dump(1) << "\n";
    return;
  }
  for (const auto& [name, entry] : results.items()) {
    for (const auto& [metric, value] : entry.items()) {
      if (!value.is_number_float() || metric.find("_stderr") != std::string::npos) continue;
      std::string error_key = metric;
      error_key.insert(error_key.find(','), "_stderr");
      std::cout << fmt::format("{:<28} {:<30} {:.4f} ± {:.4f}  ({} documents)\n", name, metric,
                               value.get<double>(), entry[error_key].get<double>(),
                               entry["sample_len"].get<int64_t>());
    }
  }
}

}  // namespace

void add_eval(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("eval", "score a model on tasks");
  verb->footer(
      "Examples:\n  narrow eval --list\n  narrow eval --show gsm8k\n"
      "  narrow eval MODEL --tasks arc_challenge,mmlu --limit 100 -o out/eval");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name");
  verb->add_option("--tasks", arguments->tasks, "names, parted by commas");
  verb->add_flag("--list", arguments->list, "print the tasks there are");
  verb->add_option("--show", arguments->show, "print the first prompts of a task");
  verb->add_option("--limit", arguments->limit, "documents of each task or subject")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->add_option("--num-fewshot", arguments->shots, "examples before each question")
      ->check(CLI::Range(0, 1000));
  verb->add_flag("--apply-chat-template", arguments->chat,
                 "through the model's chat template, examples as turns");
  verb->add_option("--task-dir", arguments->task_dir, "a folder of your own task files");
  verb->add_option("--data", arguments->data, "folder of the data sets; default data/eval");
  verb->add_option("-o,--output", arguments->output, "folder of results.json and samples")
      ->capture_default_str();
  add_globals(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
