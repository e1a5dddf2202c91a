#include "evaluate/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "evaluate/code_documents.h"
#include "evaluate/corpus_metric.h"
#include "evaluate/documents.h"
#include "evaluate/harness_task.h"
#include "evaluate/python_literal.h"
#include "evaluate/rolling.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostShots = 1000;
constexpr int64_t kMostTokens = 1 << 20;
constexpr int64_t kMostSamples = 1000;
const std::string kOldHarness = "0.4.5";

class Loader {
 public:
  // part: the one subtask or group to load, without the task's name before it; empty: all.
  // variant: the harness's version; empty: the one that the file is of.
  Loader(const fs::path& file, const fs::path& data, const std::string& part,
         const std::string& variant)
      : file_(file), data_(data), part_(part), variant_(variant) {}

  Task run() {
    std::string text = read_text(file_);
    where_ = file_.string();
    Json yaml = parse_yaml(text, where_, kHarnessYaml);
    const bool translated = is_harness_task(yaml);
    if (translated) {
      TranslatedTask task = translate_harness_task(file_);
      yaml = std::move(task.yaml);
      text = std::move(task.source);
    } else {
      yaml = parse_yaml(text, where_);
    }
    Task task;
    choose_variant(yaml, task);
    refuse_unknown(yaml, {"name",
                          "version",
                          "group_version",
                          "kind",
                          "data",
                          "subtasks",
                          "shots",
                          "first_shots",
                          "leave_out_document",
                          "preprocess",
                          "description",
                          "question",
                          "answer",
                          "choices",
                          "gold",
                          "answer_prefix",
                          "delimiter",
                          "examples",
                          "generate",
                          "filters",
                          "exact_match",
                          "metrics",
                          "normalized",
                          "guess_among",
                          "counted",
                          "example_delimiter"});
    task.yaml_sha256 = sha256_hex(text);
    task.name = json_get<std::string>(yaml, "name", where_);
    task.version = json_get<Json>(yaml, "version", where_);
    if (!task.version.is_number()) throw Error::refused("\"version\" is no number", where_);
    task.kind = kind(json_get<std::string>(yaml, "kind", where_));
    task.group_version = json_get<Json>(yaml, "group_version", where_, task.version);
    task.shots = json_get<int64_t>(yaml, "shots", where_, 0);
    if (task.shots < 0 || task.shots > kMostShots)
      throw Error::refused(fmt::format("\"shots\" is not in 0 … {}", kMostShots), where_);
    task.first_shots = json_get<bool>(yaml, "first_shots", where_, false);
    task.leave_out_document = json_get<bool>(yaml, "leave_out_document", where_, false);
    task.preprocess = json_get<std::string>(yaml, "preprocess", where_, "");
    if (const auto known = preparation_names();
        !task.preprocess.empty() &&
        std::find(known.begin(), known.end(), task.preprocess) == known.end())
      throw Error::refused("unknown preprocess \"" + task.preprocess + "\"", where_,
                           fmt::format("there are: {}", fmt::join(known, ", ")));
    random_ = PythonRandom(preparation_seed(task.preprocess));
    set_template(yaml, "description", task.description);
    set_template(yaml, "question", task.question);
    set_template(yaml, "answer", task.answer);
    set_template(yaml, "counted", task.counted);
    set_template(yaml, "choices", task.choices);
    set_template(yaml, "gold", task.gold);
    set_template(yaml, "answer_prefix", task.answer_prefix);
    task.delimiter = json_get<std::string>(yaml, "delimiter", where_, " ");
    task.example_delimiter = json_get<std::string>(yaml, "example_delimiter", where_, "\n\n");
    if (task.kind == Task::Kind::generate) read_generation(yaml, task);
    read_metrics(yaml, task);
    check_whole(task);
    read_subtasks(yaml, task);
    if (translated) read_target(task);
    if (!variant_.empty()) rename(task);
    task.data_sha256 = data_hash_.hex();
    return task;
  }

 private:
  // "variants": earlier versions of the harness, each with the fields that differ there.
  void choose_variant(Json& yaml, Task& task) const {
    if (!yaml.is_object()) throw Error::refused("expected a mapping", where_);
    const Json variants = yaml.value("variants", Json::object());
    refuse_unknown(variants, {kOldHarness});
    yaml.erase("variants");
    if (variant_.empty()) return;
    if (!variants.contains(variant_))
      throw Error::refused("no variant of version " + variant_ + " of the harness", where_);
    if (!variants[variant_].is_object())
      throw Error::refused("the variant " + variant_ + " is no mapping", where_);
    yaml.update(variants[variant_]);
    task.harness = Harness::v0_4_5;
  }

  // A number of another version is another number: the version stays visible wherever the name is.
  void rename(Task& task) const {
    task.name += "@" + variant_;
    for (Subtask& subtask : task.subtasks) {
      subtask.name += "@" + variant_;
      if (!subtask.group.empty()) subtask.group += "@" + variant_;
    }
  }

  // Every template the kind evaluates is there, every metric is one it computes.
  void check_whole(const Task& task) const {
    const bool choice = task.kind == Task::Kind::choice,
               generate = task.kind == Task::Kind::generate;
    const auto need = [&](bool there, const char* key) {
      if (!there) throw Error::refused(std::string("missing \"") + key + "\"", where_);
    };
    const bool continuation = task.kind == Task::Kind::continuation;
    const bool rolling = task.kind == Task::Kind::rolling;
    need(rolling || task.question.has_value(), "question");
    const bool of_choices = choice || (generate && task.choices.has_value());
    need(of_choices ? task.choices.has_value() : task.answer.has_value(),
         of_choices ? "choices" : "answer");
    if (of_choices || task.kind == Task::Kind::context) need(task.gold.has_value(), "gold");
    std::set<std::string> known{"acc", "acc_norm", "acc_bytes", "mc2", "f1", "mcc"};
    if (task.kind == Task::Kind::context) known = {"acc"};
    if (continuation) known = {"acc", "perplexity"};
    if (rolling) {
      known.clear();
      for (const RollingMetric& metric : rolling_metrics()) known.insert(metric.name);
    }
    if (generate) {
      known.clear();
      for (const Filter& filter : task.filters) {
        known.insert("exact_match," + filter.name);
        for (const TextMetric& metric : text_metrics())
          known.insert(metric.name + ("," + filter.name));
      }
    }
    for (const MetricKind* of : task.kinds) known.insert(of->metrics.begin(), of->metrics.end());
    need(!task.metrics.empty(), "metrics");
    for (const std::string& metric : task.metrics) {
      if (known.contains(metric)) continue;
      for (const MetricKind& of : metric_kinds())
        if (generate) known.insert(of.name);
      throw Error::refused("unknown metric \"" + metric + "\"", where_,
                           fmt::format("there are: {}", fmt::join(known, ", ")));
    }
    for (const std::string& metric : task.normalized)
      if (std::find(task.metrics.begin(), task.metrics.end(), metric) == task.metrics.end())
        throw Error::refused("\"normalized\" names \"" + metric + "\", which is no metric here",
                             where_);
  }

  // As the harness, which looks at the first document.
  void read_target(Task& task) const {
    if (task.kind != Task::Kind::generate || task.choices || task.subtasks[0].test.empty()) return;
    const std::string target = task.answer->render(task.subtasks[0].test[0]);
    if (target.size() < 2 || target.front() != '[' || target.back() != ']') return;
    try {
      parse_python_literal(target, where_);
    } catch (const Error&) {
      return;  // a text in brackets
    }
    task.several_answers = true;
    for (const std::string& metric : task.metrics)
      if (!metric.starts_with("exact_match,"))
        throw Error::refused("\"" + metric + "\" of several right answers is not carried over",
                             where_);
  }

  // A kind's name stands for its metrics.
  void read_metrics(const Json& yaml, Task& task) const {
    for (const auto& name : json_get<std::vector<std::string>>(yaml, "metrics", where_)) {
      const MetricKind* of = task.kind == Task::Kind::generate ? find_metric_kind(name) : nullptr;
      if (of) {
        task.kinds.push_back(of);
        task.metrics.insert(task.metrics.end(), of->metrics.begin(), of->metrics.end());
      } else {
        task.metrics.push_back(name);
      }
    }
    task.normalized = json_get<std::vector<std::string>>(yaml, "normalized", where_, {});
  }

  void refuse_unknown(const Json& object, const std::set<std::string>& known) const {
    if (!object.is_object()) throw Error::refused("expected a mapping", where_);
    for (const auto& [key, value] : object.items())
      if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where_);
  }

  Task::Kind kind(const std::string& text) const {
    if (text == "choice") return Task::Kind::choice;
    if (text == "context") return Task::Kind::context;
    if (text == "continuation") return Task::Kind::continuation;
    if (text == "rolling") return Task::Kind::rolling;
    if (text == "generate") return Task::Kind::generate;
    throw Error::refused("unknown kind \"" + text + "\"", where_,
                         "there are: choice, context, continuation, rolling, generate");
  }

  void set_template(const Json& yaml, const char* key, std::optional<text::Template>& out) const {
    if (yaml.contains(key)) out.emplace(json_get<std::string>(yaml, key, where_));
  }

  void read_generation(const Json& yaml, Task& task) const {
    const Json generate = json_get<Json>(yaml, "generate", where_);
    refuse_unknown(generate, {"max_tokens", "stop", "samples", "temperature", "top_p"});
    task.max_tokens = json_get<int64_t>(generate, "max_tokens", where_);
    if (task.max_tokens < 1 || task.max_tokens > kMostTokens)
      throw Error::refused(fmt::format("\"max_tokens\" is not in 1 … {}", kMostTokens), where_);
    task.stop = json_get<std::vector<std::string>>(generate, "stop", where_, {});
    task.samples = json_get<int64_t>(generate, "samples", where_, 1);
    task.temperature = json_get<double>(generate, "temperature", where_, 0.0);
    task.top_p = json_get<double>(generate, "top_p", where_, 1.0);
    if (task.samples < 1 || task.samples > kMostSamples)
      throw Error::refused(fmt::format("\"samples\" is not in 1 … {}", kMostSamples), where_);
    if (!(task.temperature >= 0 && task.temperature <= 10 && task.top_p > 0 && task.top_p <= 1))
      throw Error::refused("\"temperature\" is not in 0 … 10 or \"top_p\" not in (0, 1]", where_);
    if (task.samples > 1 && task.temperature == 0)
      throw Error::refused("several samples at temperature 0 are all the same", where_);
    const Json filters = yaml.value("filters", Json::object());
    if (!filters.is_object()) throw Error::refused("\"filters\" is no mapping", where_);
    for (const auto& [name, rule] : filters.items())
      task.filters.push_back(read_filter(name, rule, where_));
    const Json score = yaml.value("exact_match", Json::object());
    refuse_unknown(score, {"ignore_case", "ignore_punctuation", "ignore"});
    task.exact_match.ignore_case = json_get<bool>(score, "ignore_case", where_, false);
    task.exact_match.ignore_punctuation =
        json_get<bool>(score, "ignore_punctuation", where_, false);
    for (const auto& pattern : json_get<std::vector<std::string>>(score, "ignore", where_, {}))
      task.exact_match.ignore.emplace_back(pattern);
  }

  // "subtasks" is absent, a list of entries, or a mapping of groups to such lists. An entry is a
  // name, or a mapping with one: `task` is its full name where that is not the task's with the name
  // behind, `examples` and `guess_among` stand for the task's own, other fields are variables.
  void read_subtasks(const Json& yaml, Task& task) {
    const Json data = json_get<Json>(yaml, "data", where_);
    refuse_unknown(data, {"test", "shots"});
    test_files_ = json_get<std::vector<std::string>>(data, "test", where_);
    shot_files_ = json_get<std::vector<std::string>>(data, "shots", where_, {});
    const Json entries = yaml.value("subtasks", Json(Json::array({""})));
    if (entries.is_object()) {
      for (const auto& [group, list] : entries.items()) add_group(yaml, task, group, list);
    } else {
      add_group(yaml, task, "", entries);
    }
    if (task.subtasks.empty())
      throw Error::refused(part_.empty() ? "\"subtasks\" is empty" : "no subtask \"" + part_ + "\"",
                           where_);
    if (!part_.empty()) {
      const bool one = task.subtasks.size() == 1 && task.subtasks[0].group != name_of_group(task);
      task.name = one ? task.subtasks[0].name : name_of_group(task);
    }
  }

  std::string name_of_group(const Task& task) const { return task.name + "_" + part_; }

  void add_group(const Json& yaml, Task& task, const std::string& group, const Json& entries) {
    if (!entries.is_array()) throw Error::refused("\"subtasks\" is no list", where_);
    for (const Json& entry : entries) {
      const std::string name = entry.is_string() ? entry.get<std::string>()
                                                 : json_get<std::string>(entry, "name", where_);
      Subtask subtask;
      subtask.name = name.empty() ? task.name : task.name + "_" + name;
      if (!entry.is_string())
        subtask.name = json_get<std::string>(entry, "task", where_, subtask.name);
      if (!part_.empty() && part_ != name && part_ != group && part_ != subtask.name) continue;
      if (!group.empty()) subtask.group = task.name + "_" + group;
      std::string spaced = name;
      std::replace(spaced.begin(), spaced.end(), '_', ' ');
      subtask.variables = {{"subject", spaced}};
      subtask.guess_among = json_get<int64_t>(yaml, "guess_among", where_, 0);
      Json examples = yaml.value("examples", Json::array());
      if (entry.is_object()) {
        for (const auto& [key, value] : entry.items())
          if (key != "name" && key != "task" && key != "examples" && key != "guess_among")
            subtask.variables[key] = value;
        subtask.guess_among = json_get<int64_t>(entry, "guess_among", where_, subtask.guess_among);
        task.normalize_subtasks = task.normalize_subtasks || entry.contains("guess_among");
        examples = entry.value("examples", examples);
      }
      if (subtask.guess_among < 0) throw Error::refused("\"guess_among\" is negative", where_);
      subtask.test = rows(test_files_, name, task, /*required=*/true);
      subtask.shots = rows(shot_files_, name, task, /*required=*/false);
      if (!examples.is_array()) throw Error::refused("\"examples\" is no list", where_);
      for (Json& example : examples) {
        if (!example.is_object()) throw Error::refused("an example is no mapping", where_);
        subtask.shots.push_back(std::move(example));
      }
      task.subtasks.push_back(std::move(subtask));
    }
  }

  // The first of the candidate files that exists.
  std::vector<Json> rows(const std::vector<std::string>& candidates, const std::string& subject,
                         const Task& task, bool required) {
    std::vector<std::string> tried;
    for (std::string name : candidates) {
      if (const size_t at = name.find("{subject}"); at != std::string::npos)
        name.replace(at, 9, subject);
      tried.push_back(name);
      std::error_code ignored;
      if (!fs::is_regular_file(data_ / name, ignored)) continue;
      return read(data_ / name, task);
    }
    if (!required) return {};
    throw Error::refused(fmt::format("no data: looked for {}", fmt::join(tried, ", ")),
                         data_.string(),
                         "run scripts/fetch_data.py or scripts/fetch_hub_data.py, or give the "
                         "folder of your data sets "
                         "with --data");
  }

  std::vector<Json> read(const fs::path& path, const Task& task) {
    data_hash_.add(read_text(path));
    auto list = task.preprocess == "evalplus" ? read_code_documents(path) : read_documents(path);
    return task.preprocess.empty()
               ? list
               : prepare(task.preprocess, std::move(list), path.string(), random_);
  }

  const fs::path file_, data_;
  const std::string part_, variant_;
  std::string where_;
  std::vector<std::string> test_files_, shot_files_;
  Sha256 data_hash_;
  PythonRandom random_{0};
};

// Whether a task file has a subtask or group of this name (a subtask's full name too).
bool lists_part(const std::string& task, const std::string& part) {
  const Json yaml = read_yaml(find_data_file("tasks", task));
  const Json subtasks = yaml.value("subtasks", Json::array());
  const auto among = [&](const Json& list) {
    return std::any_of(list.begin(), list.end(), [&](const Json& entry) {
      return entry.is_string() ? entry == part
                               : entry.is_object() && (entry.value("name", Json()) == part ||
                                                       entry.value("task", Json()) == part);
    });
  };
  if (!subtasks.is_object()) return among(subtasks);
  for (const auto& [group, list] : subtasks.items())
    if (group == part || among(list)) return true;
  return false;
}

}  // namespace

fs::path data_root(const fs::path& given) {
  if (!given.empty()) return given;
  if (const char* folder = std::getenv("NARROW_DATA_DIR")) return folder;
  return fs::path(NARROW_SOURCE_DIR) / "data" / "eval";
}

std::vector<std::string> task_names() { return data_file_names("tasks"); }

Task load_task(const std::string& name_or_path, const fs::path& data) {
  const fs::path folder = data_root(data);
  std::string name = name_or_path, variant;
  if (const size_t at = name.rfind('@');
      at != std::string::npos &&
      name.find_first_not_of("0123456789.", at + 1) == std::string::npos) {
    variant = name.substr(at + 1);
    name.resize(at);
  }
  const auto load = [&](const std::string& task, const std::string& part) {
    return Loader(find_data_file("tasks", task), folder, part, variant).run();
  };
  const auto names = task_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    // A part: of the task with the longest name that begins its own, or that lists it by name.
    std::string of;
    for (const std::string& task : names)
      if (name.starts_with(task + "_") && task.size() > of.size()) of = task;
    if (!of.empty() && lists_part(of, name.substr(of.size() + 1)))
      return load(of, name.substr(of.size() + 1));
    for (const std::string& task : names)
      if (lists_part(task, name)) return load(task, name);
  }
  return load(name, "");
}

}  // namespace narrow::evaluate
