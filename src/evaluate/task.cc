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

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostShots = 1000;
constexpr int64_t kMostTokens = 1 << 20;

// HellaSwag's own cleaning, as lm-evaluation-harness does it.
std::string clean_hellaswag(std::string text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.back())) text.pop_back();
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), blank));
  const auto replace = [&](const std::string& from, const std::string& to) {
    std::string result;
    size_t begin = 0;
    for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size())
      result.append(text, begin, at - begin).append(to);
    text = result.append(text, begin);
  };
  replace(" [title]", ". ");
  static const Pattern brackets("\\[.*?\\]");
  text = brackets.remove_all(text);
  replace("  ", " ");
  return text;
}

// Python's str.capitalize for the ASCII letters that begin HellaSwag's sentences.
std::string capitalized(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x80)
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!text.empty() && static_cast<unsigned char>(text[0]) < 0x80)
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

Json preprocess_hellaswag(const Json& doc, const std::string& where) {
  const auto text = [&](const char* key) { return json_get<std::string>(doc, key, where); };
  Json endings = Json::array();
  for (const auto& ending : json_get<std::vector<std::string>>(doc, "endings", where))
    endings.push_back(clean_hellaswag(ending));
  const Json label = json_get<Json>(doc, "label", where);
  const std::string digit = label.is_string() ? label.get<std::string>() : label.dump();
  if (digit.size() != 1 || digit[0] < '0' || digit[0] >= static_cast<char>('0' + endings.size()))
    throw Error::refused("\"label\" is the index of no ending", where);
  const int gold = digit[0] - '0';
  Json result = doc;
  result["query"] = clean_hellaswag(text("activity_label") + ": " + text("ctx_a") + " " +
                                    capitalized(text("ctx_b")));
  result["choices"] = std::move(endings);
  result["gold"] = gold;
  return result;
}

// A row of a comma-separated file with quotes, as MMLU's original files are.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, any = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = any = true;
    } else if (c == ',') {
      row.push_back(std::exchange(field, {}));
      any = true;
    } else if (c == '\n') {
      if (any || !field.empty()) {
        row.push_back(std::exchange(field, {}));
        rows.push_back(std::exchange(row, {}));
      }
      any = false;
    } else if (c != '\r') {
      field += c;
      any = true;
    }
  }
  if (any || !field.empty()) {
    row.push_back(field);
    rows.push_back(row);
  }
  return rows;
}

Json mmlu_row(const std::vector<std::string>& fields, const std::string& where) {
  if (fields.size() != 6 || fields[5].size() != 1 || fields[5][0] < 'A' || fields[5][0] > 'D')
    throw Error::refused("expected question, four choices and a letter", where);
  return {{"question", fields[0]},
          {"choices", {fields[1], fields[2], fields[3], fields[4]}},
          {"answer", fields[5][0] - 'A'}};
}

class Loader {
 public:
  // part: the one subtask or group to load, without the task's name before it; empty: all.
  Loader(const fs::path& file, const fs::path& data, const std::string& part)
      : file_(file), data_(data), part_(part) {}

  Task run() {
    const std::string text = read_text(file_);
    where_ = file_.string();
    const Json yaml = parse_yaml(text, where_);
    refuse_unknown(yaml,
                   {"name", "version", "group_version", "kind", "data", "subtasks", "shots",
                    "first_shots", "leave_out_document", "preprocess", "description", "question",
                    "answer", "choices", "gold", "generate", "filters", "exact_match", "metrics"});
    Task task;
    task.yaml_sha256 = sha256_hex(text);
    task.name = json_get<std::string>(yaml, "name", where_);
    task.version = json_get<int64_t>(yaml, "version", where_);
    task.kind = kind(json_get<std::string>(yaml, "kind", where_));
    task.group_version = json_get<int64_t>(yaml, "group_version", where_, task.version);
    task.shots = json_get<int64_t>(yaml, "shots", where_, 0);
    if (task.shots < 0 || task.shots > kMostShots)
      throw Error::refused(fmt::format("\"shots\" is not in 0 … {}", kMostShots), where_);
    task.first_shots = json_get<bool>(yaml, "first_shots", where_, false);
    task.leave_out_document = json_get<bool>(yaml, "leave_out_document", where_, false);
    task.preprocess = json_get<std::string>(yaml, "preprocess", where_, "");
    if (!task.preprocess.empty() && task.preprocess != "hellaswag")
      throw Error::refused("unknown preprocess \"" + task.preprocess + "\"", where_);
    set_template(yaml, "description", task.description);
    set_template(yaml, "question", task.question);
    set_template(yaml, "answer", task.answer);
    set_template(yaml, "choices", task.choices);
    set_template(yaml, "gold", task.gold);
    task.metrics = json_get<std::vector<std::string>>(yaml, "metrics", where_);
    if (task.kind == Task::Kind::generate) read_generation(yaml, task);
    check_whole(task);
    read_subtasks(yaml, task);
    task.data_sha256 = data_hash_.hex();
    return task;
  }

 private:
  // Every template the kind evaluates is there, every metric is one it computes.
  void check_whole(const Task& task) const {
    const bool choice = task.kind == Task::Kind::choice,
               generate = task.kind == Task::Kind::generate;
    const auto need = [&](bool there, const char* key) {
      if (!there) throw Error::refused(std::string("missing \"") + key + "\"", where_);
    };
    need(task.question.has_value(), "question");
    need(choice ? task.choices.has_value() : task.answer.has_value(),
         choice ? "choices" : "answer");
    if (!generate) need(task.gold.has_value(), "gold");
    std::set<std::string> known{"acc", "acc_norm"};
    if (task.kind == Task::Kind::context) known = {"acc"};
    if (generate) {
      known.clear();
      for (const Filter& filter : task.filters) known.insert("exact_match," + filter.name);
    }
    need(!task.metrics.empty(), "metrics");
    for (const std::string& metric : task.metrics)
      if (!known.contains(metric))
        throw Error::refused("unknown metric \"" + metric + "\"", where_,
                             fmt::format("there are: {}", fmt::join(known, ", ")));
  }

  void refuse_unknown(const Json& object, const std::set<std::string>& known) const {
    if (!object.is_object()) throw Error::refused("expected a mapping", where_);
    for (const auto& [key, value] : object.items())
      if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where_);
  }

  Task::Kind kind(const std::string& text) const {
    if (text == "choice") return Task::Kind::choice;
    if (text == "context") return Task::Kind::context;
    if (text == "generate") return Task::Kind::generate;
    throw Error::refused("unknown kind \"" + text + "\"", where_,
                         "there are: choice, context, generate");
  }

  void set_template(const Json& yaml, const char* key, std::optional<text::Template>& out) const {
    if (yaml.contains(key)) out.emplace(json_get<std::string>(yaml, key, where_));
  }

  void read_generation(const Json& yaml, Task& task) const {
    const Json generate = json_get<Json>(yaml, "generate", where_);
    refuse_unknown(generate, {"max_tokens", "stop"});
    task.max_tokens = json_get<int64_t>(generate, "max_tokens", where_);
    if (task.max_tokens < 1 || task.max_tokens > kMostTokens)
      throw Error::refused(fmt::format("\"max_tokens\" is not in 1 … {}", kMostTokens), where_);
    task.stop = json_get<std::vector<std::string>>(generate, "stop", where_, {});
    const Json filters = json_get<Json>(yaml, "filters", where_);
    if (!filters.is_object()) throw Error::refused("\"filters\" is no mapping", where_);
    for (const auto& [name, rule] : filters.items()) {
      refuse_unknown(rule, {"first", "last"});
      const bool last = rule.contains("last");
      task.filters.push_back({name,
                              Pattern(json_get<std::string>(rule, last ? "last" : "first", where_)),
                              last ? -1 : 0});
    }
    const Json score = yaml.value("exact_match", Json::object());
    refuse_unknown(score, {"ignore_case", "ignore"});
    task.exact_match.ignore_case = json_get<bool>(score, "ignore_case", where_, false);
    for (const auto& pattern : json_get<std::vector<std::string>>(score, "ignore", where_, {}))
      task.exact_match.ignore.emplace_back(pattern);
  }

  // "subtasks" is absent, a list of names, or a mapping of groups to lists of names.
  void read_subtasks(const Json& yaml, Task& task) {
    const Json data = json_get<Json>(yaml, "data", where_);
    refuse_unknown(data, {"test", "shots"});
    const auto test = json_get<std::vector<std::string>>(data, "test", where_);
    const auto shots = json_get<std::vector<std::string>>(data, "shots", where_, {});
    const auto add_group = [&](const std::string& group, const std::vector<std::string>& names) {
      for (const std::string& name : names) {
        if (!part_.empty() && part_ != name && part_ != group) continue;
        Subtask subtask;
        subtask.name = name.empty() ? task.name : task.name + "_" + name;
        if (!group.empty()) subtask.group = task.name + "_" + group;
        std::string spaced = name;
        std::replace(spaced.begin(), spaced.end(), '_', ' ');
        subtask.variables = {{"subject", spaced}};
        subtask.test = rows(test, name, task, /*required=*/true);
        subtask.shots = rows(shots, name, task, /*required=*/false);
        task.subtasks.push_back(std::move(subtask));
      }
    };
    const auto subtasks = yaml.find("subtasks");
    if (subtasks != yaml.end() && subtasks->is_object()) {
      for (const auto& [group, names] : subtasks->items())
        add_group(group, json_get<std::vector<std::string>>(*subtasks, group.c_str(), where_));
    } else {
      add_group("", json_get<std::vector<std::string>>(yaml, "subtasks", where_, {""}));
    }
    if (task.subtasks.empty())
      throw Error::refused(part_.empty() ? "\"subtasks\" is empty" : "no subtask \"" + part_ + "\"",
                           where_);
    if (!part_.empty()) task.name += "_" + part_;
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
    throw Error::refused(
        fmt::format("no data: looked for {}", fmt::join(tried, ", ")), data_.string(),
        "run scripts/fetch_data.py, or give the folder of your data sets with --data");
  }

  std::vector<Json> read(const fs::path& path, const Task& task) {
    std::vector<Json> list;
    data_hash_.add(read_text(path));
    const auto add = [&](Json row, const std::string& where) {
      list.push_back(task.preprocess.empty() ? std::move(row) : preprocess_hellaswag(row, where));
    };
    if (path.extension() == ".csv") {
      const auto table = parse_csv(read_text(path));
      for (size_t i = 0; i < table.size(); ++i) {
        const std::string where = path.string() + ":" + std::to_string(i + 1);
        add(mmlu_row(table[i], where), where);
      }
    } else {
      for_each_json_line(path, [&](Json&& row, int64_t line) {
        const std::string where = path.string() + ":" + std::to_string(line);
        if (!row.is_object()) throw Error::refused("expected an object", where);
        add(std::move(row), where);
      });
    }
    return list;
  }

  const fs::path file_, data_;
  const std::string part_;
  std::string where_;
  Sha256 data_hash_;
};

fs::path default_data() {
  if (const char* folder = std::getenv("NARROW_DATA_DIR")) return folder;
  return fs::path(NARROW_SOURCE_DIR) / "data" / "eval";
}

}  // namespace

std::vector<std::string> task_names() { return data_file_names("tasks"); }

Task load_task(const std::string& name_or_path, const fs::path& data) {
  const fs::path folder = data.empty() ? default_data() : data;
  for (const std::string& task : task_names()) {
    if (name_or_path.starts_with(task + "_"))
      return Loader(find_data_file("tasks", task), folder, name_or_path.substr(task.size() + 1))
          .run();
  }
  return Loader(find_data_file("tasks", name_or_path), folder, "").run();
}

}  // namespace narrow::evaluate
