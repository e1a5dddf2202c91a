#include "evaluate/ruler_task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "endpoint/endpoint.h"

namespace narrow::evaluate {
namespace {

constexpr int kThousands[] = {4, 8, 16, 32, 64, 128};

struct Name {
  int64_t length = 0;  // 0: none of RULER's
  std::string task;    // empty: all
};

Name parse(const std::string& name) {
  for (const int thousands : kThousands) {
    const std::string begin = fmt::format("ruler_{}k", thousands);
    if (name == begin) return {thousands * 1024, ""};
    if (name.starts_with(begin + "_")) return {thousands * 1024, name.substr(begin.size() + 1)};
  }
  return {};
}

const RulerTask& task_named(const std::string& name) {
  static const std::vector<RulerTask> tasks = ruler_tasks();
  std::vector<std::string> names;
  for (const RulerTask& task : tasks) {
    if (task.name == name) return task;
    names.push_back(task.name);
  }
  throw Error::refused("RULER has no task \"" + name + "\"", {},
                       fmt::format("there are: {}", fmt::join(names, ", ")));
}

}  // namespace

std::vector<std::string> ruler_lengths() {
  std::vector<std::string> names;
  for (const int thousands : kThousands) names.push_back(fmt::format("ruler_{}k", thousands));
  return names;
}

int64_t ruler_length(const std::string& name) { return parse(name).length; }

std::vector<TaskRequest> expand_ruler(std::vector<TaskRequest> requests) {
  std::vector<TaskRequest> expanded;
  const auto add = [&](TaskRequest request) {
    for (const TaskRequest& there : expanded)
      if (there.name == request.name) return;
    expanded.push_back(std::move(request));
  };
  for (TaskRequest& request : requests) {
    const Name name = parse(request.name);
    if (name.length == 0 || !name.task.empty()) {
      if (name.length > 0) task_named(name.task);
      add(std::move(request));
      continue;
    }
    for (const RulerTask& task : ruler_tasks()) {
      TaskRequest one = request;
      one.name += "_" + task.name;
      add(std::move(one));
    }
  }
  return expanded;
}

Task make_ruler_task(const std::string& name, RulerOptions options, const TokenCounter& count) {
  const Name parsed = parse(name);
  options.length = parsed.length;
  Task task;
  task.name = name;
  task.version = 1;
  task.group_version = 1;
  task.kind = Task::Kind::generate;
  // The answer's beginning stands directly behind the text, as in RULER.
  task.delimiter = "";
  task.question.emplace("{{input}}");
  task.answer_prefix.emplace("{{answer_prefix}}");
  task.answer.emplace("{{target}}");
  task.kinds = {find_metric_kind("ruler")};
  task.metrics = task.kinds.front()->metrics;
  task.yaml_sha256 = sha256_file(data_folder("tasks/ruler") / "tasks.yaml");
  Sha256 hash;
  const std::vector<RulerTask> tasks =
      parsed.task.empty() ? ruler_tasks() : std::vector{task_named(parsed.task)};
  // Hundreds of samples of a long context take minutes.
  Progress progress("samples of " + name, static_cast<int64_t>(tasks.size()), "tasks");
  const auto add = [&](const RulerTask& of) {
    Subtask subtask;
    subtask.name = parsed.task.empty() ? name + "_" + of.name : name;
    subtask.max_tokens = of.new_tokens;
    for (const RulerSample& sample : make_ruler(of.name, options, count)) {
      subtask.test.push_back({{"input", sample.input},
                              {"answer_prefix", sample.answer_prefix},
                              {"outputs", sample.outputs},
                              {"target", fmt::format("{}", fmt::join(sample.outputs, ", "))},
                              {"score", of.score == RulerScore::part ? "part" : "all"},
                              {"length_tokens", sample.length_tokens}});
      hash.add(to_line(subtask.test.back()));
    }
    task.subtasks.push_back(std::move(subtask));
    progress.advance();
  };
  for (const RulerTask& of : tasks) add(of);
  if (!parsed.task.empty()) task.max_tokens = *task.subtasks.front().max_tokens;
  task.data_sha256 = hash.hex();
  return task;
}

Task make_ruler_task(const std::string& name, const std::filesystem::path& data,
                     std::optional<int64_t> samples, const RulerModel& model) {
  const int64_t length = ruler_length(name);
  if (model.context_tokens > 0 && length > model.context_tokens)
    throw Error::refused(fmt::format("samples of {} tokens, the model's context is {}", length,
                                     model.context_tokens),
                         "task " + name);
  if (model.chat && !model.chat_template)
    throw Error::refused("the model has no chat template", "task " + name, "use plain prompts");
  RulerOptions options;
  options.data = data / "ruler";
  if (samples) options.samples = *samples;
  options.template_tokens = static_cast<int64_t>(
      model.chat ? endpoint::encode_chat(model.tokenizer, *model.chat_template,
                                         Json::array({{{"role", "user"}, {"content", ""}}}))
                       .size()
                 : model.tokenizer.encode("", {.add_special = true}).size());
  return make_ruler_task(name, options, [&](const std::string& text) {
    return static_cast<int64_t>(model.tokenizer.encode(text, {}).size());
  });
}

}  // namespace narrow::evaluate
