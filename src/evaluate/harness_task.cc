#include "evaluate/harness_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "evaluate/filter.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr int kMostIncludes = 8;
constexpr int64_t kMostTaskFiles = 20000;
// Tokens of an answer when a task sets no bound: the default of the harness's Hugging Face models.
constexpr int64_t kDefaultTokens = 256;

// The name at the front of a line "key: value", quotes removed; empty for any other line.
std::string key_of(const std::string& line) {
  const size_t colon = line.find(':');
  if (colon == std::string::npos) return "";
  std::string key = line.substr(0, colon);
  std::erase_if(key, [](char c) { return c == '"' || c == '\''; });
  return key;
}

bool is_identifier(const std::string& text) {
  return !text.empty() && !std::isdigit(static_cast<unsigned char>(text[0])) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
         });
}

// The harness takes a text that is the name of a field for the field.
std::string as_template(const std::string& text) {
  return is_identifier(text) ? fmt::format("{{{{{0} if {0} is defined else '{0}'}}}}", text) : text;
}

class Translator {
 public:
  explicit Translator(const fs::path& file) : file_(file) {}

  TranslatedTask run() {
    const Json from = read(file_, 0);
    if (from.contains("group")) refuse("group", "a group of tasks: name the tasks themselves");
    check_fields(from);
    Json to{{"name", json_get<std::string>(from, "task", where())}};
    const Json metadata = from.value("metadata", Json::object());
    const Json version = metadata.is_object() ? metadata.value("version", Json(0)) : Json(0);
    to["version"] = version.is_number() ? version : Json(0);
    const auto type = json_get<std::string>(from, "output_type", where(), "generate_until");
    static const std::map<std::string, std::string> kKinds{{"multiple_choice", "choice"},
                                                           {"generate_until", "generate"},
                                                           {"loglikelihood", "continuation"},
                                                           {"loglikelihood_rolling", "rolling"}};
    const auto kind = kKinds.find(type);
    if (kind == kKinds.end()) refuse("output_type", "\"" + type + "\" is not carried over");
    to["kind"] = kind->second;
    data(from, to);
    if (kind->second == "rolling") {
      // The harness scores the target alone: no examples, no question.
      to["data"]["shots"] = Json::array();
      to["answer"] = target(from);
    } else {
      texts(from, to, kind->second);
      shots(from, to);
    }
    metrics(from, to);
    if (kind->second == "generate") generation(from, to);
    return {std::move(to), std::move(source_)};
  }

 private:
  std::string where() const { return file_.string(); }

  // Names the line on which the field stands, in the file or one that it includes.
  [[noreturn]] void refuse(const std::string& field, const std::string& what) const {
    const auto at = lines_.find(field);
    throw Error::refused("\"" + field + "\": " + what, at == lines_.end() ? where() : at->second);
  }

  Json read(const fs::path& file, int depth) {
    if (depth > kMostIncludes) throw Error::refused("includes more than 8 files deep", where());
    const std::string text = read_text(file);
    source_ += text + "\n";
    std::istringstream stream(text);
    int number = 0;
    static const Pattern function("(?<=[:\\-\\[,])\\s+!function\\s+\\S+");
    for (std::string line; std::getline(stream, line);) {
      const std::string place = file.string() + ":" + std::to_string(++number);
      if (const auto found = function.find_all(line.substr(0, line.find(" #"))); !found.empty())
        throw Error::refused("Python code:" + found[0], place,
                             "only tasks that need no Python can be loaded");
      if (const std::string key = key_of(line); is_identifier(key)) lines_.emplace(key, place);
    }
    Json yaml = parse_yaml(text, file.string(), kHarnessYaml);
    if (!yaml.is_object()) throw Error::refused("expected a mapping", file.string());
    if (yaml.contains("class"))
      refuse("class", "Python code; only tasks that need none can be loaded");
    if (!yaml.contains("include")) return yaml;
    const fs::path base = json_get<std::string>(yaml, "include", file.string());
    Json whole = read(base.is_absolute() ? base : file.parent_path() / base, depth + 1);
    yaml.erase("include");
    whole.update(yaml);
    return whole;
  }

  void check_fields(const Json& from) const {
    // What changes neither prompts nor scores.
    const std::vector<std::string> known{"tag",
                                         "task",
                                         "task_alias",
                                         "dataset_path",
                                         "dataset_name",
                                         "dataset_kwargs",
                                         "training_split",
                                         "validation_split",
                                         "test_split",
                                         "fewshot_split",
                                         "doc_to_text",
                                         "doc_to_target",
                                         "doc_to_choice",
                                         "description",
                                         "target_delimiter",
                                         "fewshot_delimiter",
                                         "fewshot_config",
                                         "num_fewshot",
                                         "metric_list",
                                         "output_type",
                                         "generation_kwargs",
                                         "repeats",
                                         "filter_list",
                                         "should_decontaminate",
                                         "doc_to_decontamination_query",
                                         "gen_prefix",
                                         "metadata"};
    for (const auto& [key, value] : from.items())
      if (!value.is_null() && std::find(known.begin(), known.end(), key) == known.end())
        refuse(key, "is not carried over");
  }

  // Files by the task's name, or by that of the data set; or those that dataset_kwargs names.
  void data(const Json& from, Json& to) const {
    const auto split = [&](const char* key) {
      return json_get<std::string>(from, key, where(), "");
    };
    const std::string test = split("test_split"), validation = split("validation_split"),
                      training = split("training_split");
    const std::string asked = test.empty() ? validation : test;
    if (asked.empty()) refuse("test_split", "neither a test nor a validation split");
    std::string pool = split("fewshot_split");
    // The harness compares these two, unset ones as well.
    to["leave_out_document"] = pool == test;
    if (pool.empty()) pool = !training.empty() ? training : !validation.empty() ? validation : test;
    const Json options = from.value("dataset_kwargs", Json::object());
    const Json files = options.is_object() ? options.value("data_files", Json()) : Json();
    const auto path = json_get<std::string>(from, "dataset_path", where());
    const auto set = json_get<std::string>(from, "dataset_name", where(), "");
    const auto candidates = [&](const std::string& name) {
      Json list = Json::array();
      if (files.is_object()) {
        const fs::path file = json_get<std::string>(files, name.c_str(), where());
        list.push_back((file.is_absolute() ? file : file_.parent_path() / file).string());
        return list;
      }
      const std::string base = fs::path(path).filename().string();
      for (const std::string& folder :
           {json_get<std::string>(from, "task", where()), set.empty() ? base : base + "/" + set})
        for (const char* ending : {".jsonl", ".jsonl.gz", ".json"})
          list.push_back(folder + "/" + name + ending);
      return list;
    };
    to["data"] = {{"test", candidates(asked)}, {"shots", candidates(pool)}};
  }

  std::string target(const Json& from) const {
    const Json given = from.value("doc_to_target", Json());
    if (!given.is_string() && !given.is_number_integer())
      refuse("doc_to_target", "only a template or a number can be carried over");
    return given.is_string() ? as_template(given.get<std::string>()) : given.dump();
  }

  void texts(const Json& from, Json& to, const std::string& kind) const {
    const Json text = from.value("doc_to_text", Json());
    if (!text.is_string()) refuse("doc_to_text", "only a template can be carried over");
    to["question"] = as_template(text.get<std::string>());
    for (const auto& [theirs, ours] :
         {std::pair{"description", "description"}, std::pair{"gen_prefix", "answer_prefix"}})
      if (const auto other = json_get<std::string>(from, theirs, where(), ""); !other.empty())
        to[ours] = as_template(other);
    to["example_delimiter"] = json_get<std::string>(from, "fewshot_delimiter", where(), "\n\n");
    to["delimiter"] = json_get<std::string>(from, "target_delimiter", where(), " ");
    const std::string right = target(from);
    const Json choices = from.value("doc_to_choice", Json());
    if (kind != "choice" && choices.is_null()) {
      to["answer"] = right;
      return;
    }
    // The harness compares a generated answer with the choice that the target is the index of.
    if (kind == "continuation") refuse("doc_to_choice", "is not carried over to a continuation");
    to["gold"] = right;
    if (choices.is_string()) {
      to["choices"] = as_template(choices.get<std::string>());
    } else if (choices.is_array() || choices.is_object()) {
      Json list = Json::array();
      for (const Json& one : choices) list.push_back(one);
      to["choices"] = "{{doc_to_choice}}";
      to["subtasks"] = Json::array({{{"name", ""}, {"doc_to_choice", std::move(list)}}});
    } else {
      refuse("doc_to_choice", "is missing");
    }
  }

  void shots(const Json& from, Json& to) const {
    to["shots"] = json_get<int64_t>(from, "num_fewshot", where(), 0);
    const Json config = from.value("fewshot_config", Json());
    if (config.is_null()) return;
    if (!config.is_object()) refuse("fewshot_config", "is no mapping");
    for (const auto& [key, value] : config.items()) {
      if (key == "sampler" && (value == "first_n" || value == "default")) {
        to["first_shots"] = value == "first_n";
      } else if (key == "samples" && value.is_array()) {
        to["examples"] = value;
        to["data"]["shots"] = Json::array();
      } else {
        refuse("fewshot_config", "\"" + key + "\" is not carried over");
      }
    }
  }

  // A metric's name in a task file of ours; the aggregation is the harness's own for it.
  struct Metric {
    const char *kind, *name, *aggregation;
  };
  static constexpr Metric kMetrics[] = {{"choice", "acc", "mean"},
                                        {"choice", "acc_norm", "mean"},
                                        {"choice", "acc_bytes", "mean"},
                                        {"choice", "f1", "f1"},
                                        {"choice", "mcc", "matthews_corrcoef"},
                                        {"generate", "exact_match", "mean"},
                                        {"generate", "bleu", "bleu"},
                                        {"generate", "chrf", "chrf"},
                                        {"generate", "ter", "ter"},
                                        {"continuation", "acc", "mean"},
                                        {"continuation", "perplexity", "perplexity"},
                                        {"rolling", "word_perplexity", "weighted_perplexity"},
                                        {"rolling", "byte_perplexity", "weighted_perplexity"},
                                        {"rolling", "bits_per_byte", "bits_per_byte"}};

  void metrics(const Json& from, Json& to) const {
    const auto kind = to["kind"].get<std::string>();
    const bool generate = kind == "generate";
    const Json given = from.value("metric_list", Json());
    if (!given.is_null() && !given.is_array()) refuse("metric_list", "is no list");
    std::vector<std::string> names;
    if (given.is_null()) {
      static const std::map<std::string, std::vector<std::string>> kDefaults{
          {"generate", {kExactMatch}},
          {"choice", {"acc", "acc_norm"}},
          {"continuation", {"perplexity", "acc"}},
          {"rolling", {"word_perplexity", "byte_perplexity", "bits_per_byte"}}};
      names = kDefaults.at(kind);
    }
    for (const Json& metric : given.is_null() ? Json::array() : given) {
      const auto name = json_get<std::string>(metric, "metric", where());
      const auto known = std::find_if(std::begin(kMetrics), std::end(kMetrics), [&](const auto& m) {
        return kind == m.kind && name == m.name;
      });
      if (known == std::end(kMetrics))
        refuse("metric_list", "the metric \"" + name + "\" is not carried over");
      for (const auto& [key, value] : metric.items()) {
        if (key == "metric" || key == "higher_is_better" || key == "weight_by_size") continue;
        if (key == "aggregation" && value == known->aggregation) continue;
        if (key == "average" && kind == "choice" && name == "f1") continue;  // unused there, too
        if (name == kExactMatch && key == "regexes_to_ignore") {
          to["exact_match"]["ignore"] = value;
        } else if (name == kExactMatch && (key == "ignore_case" || key == "ignore_punctuation")) {
          to["exact_match"][key] = value;
        } else {
          refuse("metric_list", "\"" + key + "\" of \"" + name + "\" is not carried over");
        }
      }
      names.push_back(name);
    }
    to["metrics"] = Json::array();
    if (!generate) {
      to["metrics"] = names;
      if (from.contains("filter_list") && !from["filter_list"].is_null())
        refuse("filter_list", "is not carried over to a choice");
      return;
    }
    filters(from, to);
    for (const auto& [filter, rule] : to["filters"].items())
      for (const std::string& name : names) to["metrics"].push_back(name + "," + filter);
  }

  void filters(const Json& from, Json& to) const {
    const Json list = from.value("filter_list", Json());
    if (list.is_null()) {
      to["filters"] = {{"none", Json::object()}};
      return;
    }
    if (!list.is_array()) refuse("filter_list", "is no list");
    const int64_t samples = samples_of(from);
    for (const Json& filter : list) {
      const auto name = json_get<std::string>(filter, "name", where());
      Json steps = Json::array();
      bool took_first = false, voted = false;
      int64_t take = 0;
      for (const Json& step : json_get<std::vector<Json>>(filter, "filter", where())) {
        const auto function = json_get<std::string>(step, "function", where());
        if (function == "take_first") {
          took_first = true;
          continue;
        }
        if (voted) refuse("filter_list", "\"" + name + "\" goes on behind its vote");
        if (took_first && (function == "majority_vote" || function == "take_first_k"))
          refuse("filter_list", "\"" + name + "\" votes about one response");
        if (function == "take_first_k") {
          take = json_get<int64_t>(step, "k", where());
          if (take > samples && samples > 1)
            refuse("filter_list", "\"" + name + "\" takes more responses than there are");
          continue;
        }
        if (function == "majority_vote") {
          voted = true;
          continue;
        }
        if (function == "remove_whitespace") {
          // A match has none at its ends.
          if (steps.empty() || steps.back().contains("strip")) steps.push_back({{"strip", true}});
        } else if (function == "regex") {
          steps.push_back(match_of(step, {}));
        } else if (function == "multi_choice_regex") {
          Json choice = match_of(step, {"ignore_case", "ignore_punctuation", "regexes_to_ignore"});
          for (const char* key : {"ignore_case", "ignore_punctuation"})
            if (step.contains(key)) choice[key] = step[key];
          if (step.contains("regexes_to_ignore") && !step["regexes_to_ignore"].is_null())
            choice["ignore"] = step["regexes_to_ignore"];
          steps.push_back({{"choice", std::move(choice)}});
        } else {
          refuse("filter_list", "\"" + function + "\" is not carried over in \"" + name + "\"");
        }
      }
      // Of equal responses each is the first and the vote's.
      if (samples > 1) {
        if (!voted) take = 1;
        if (take > 0) steps.insert(steps.begin(), Json{{"take", take}});
        if (voted) steps.push_back({{"vote", true}});
      }
      to["filters"][name] = std::move(steps);
    }
  }

  // Responses to each question: more than one only where a filter votes, every other looks at the
  // first, and where they are drawn.
  int64_t samples_of(const Json& from) const {
    const Json kwargs = from.value("generation_kwargs", Json());
    const bool sampled = kwargs.is_object() && kwargs.value("do_sample", Json()) == true;
    const Json list = from.value("filter_list", Json());
    bool votes = false;
    if (list.is_array())
      for (const Json& filter : list)
        for (const Json& step : json_get<std::vector<Json>>(filter, "filter", where()))
          votes |= json_get<std::string>(step, "function", where()) == "majority_vote";
    return sampled && votes ? json_get<int64_t>(from, "repeats", where(), 1) : 1;
  }

  // The pattern of a step and which of its matches counts; `more`: other fields it may have.
  Json match_of(const Json& step, const std::vector<std::string>& more) const {
    for (const auto& [key, value] : step.items())
      if (key != "function" && key != "regex_pattern" && key != "group_select" &&
          !(key == "fallback" && value == kNoAnswer) &&
          std::find(more.begin(), more.end(), key) == more.end())
        refuse("filter_list", "\"" + key + "\" is not carried over");
    const auto index = json_get<int64_t>(step, "group_select", where(), 0);
    if (index != 0 && index != -1)
      refuse("filter_list", "only the first and the last match can be selected");
    return {{index == 0 ? "first" : "last",
             json_get<std::string>(step, "regex_pattern", where(), "#### (\\-?[0-9\\.\\,]+)")}};
  }

  void generation(const Json& from, Json& to) const {
    Json given = from.value("generation_kwargs", Json());
    if (given.is_null()) given = Json::object();
    if (!given.is_object()) refuse("generation_kwargs", "is no mapping");
    Json out{{"max_tokens", kDefaultTokens}, {"stop", Json::array({"\n\n"})}};
    bool sampled = false;
    double temperature = 0, top_p = 1;
    for (const auto& [key, value] : given.items()) {
      if (key == "until") {
        out["stop"] = value;
        if (value.is_string()) out["stop"] = std::vector{value.get<std::string>()};
      } else if (key == "max_gen_toks" || key == "max_new_tokens" || key == "max_tokens") {
        out["max_tokens"] = value;
      } else if (key == "do_sample") {
        sampled = json_get<bool>(given, "do_sample", where());
      } else if (key == "temperature") {
        temperature = json_get<double>(given, "temperature", where());
      } else if (key == "top_p") {
        top_p = json_get<double>(given, "top_p", where());
      } else if (key != "num_beams" || value != 1) {
        refuse("generation_kwargs", "\"" + key + "\" is not carried over");
      }
    }
    if (sampled != (temperature > 0))
      refuse(
          "generation_kwargs",
          "answers are sampled with do_sample and a temperature above 0, or greedy without both");
    if (sampled) out.update({{"temperature", temperature}, {"top_p", top_p}});
    if (const int64_t samples = samples_of(from); samples > 1) out["samples"] = samples;
    to["generate"] = std::move(out);
  }

  inline static const std::string kExactMatch = "exact_match";

  const fs::path file_;
  std::string source_;
  std::map<std::string, std::string> lines_;  // field → where it stands
};

}  // namespace

bool is_harness_task(const Json& yaml) {
  return yaml.is_object() && !yaml.contains("name") &&
         (yaml.contains("task") || yaml.contains("group"));
}

TranslatedTask translate_harness_task(const fs::path& file) { return Translator(file).run(); }

std::multimap<std::string, fs::path> tasks_below(const fs::path& folder) {
  std::multimap<std::string, fs::path> tasks;
  int64_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".yaml") continue;
    if (++files > kMostTaskFiles)
      throw Error::refused(fmt::format("more than {} task files", kMostTaskFiles), folder.string());
    // The name is read from its line: other tasks of the folder may not be ones we can load.
    std::istringstream stream(read_text(entry.path()));
    for (std::string line; std::getline(stream, line);) {
      const std::string key = key_of(line);
      if (key != "task" && key != "name") continue;
      std::string name = stripped(line.substr(line.find(':') + 1));
      name = name.substr(0, name.find(" #"));
      std::erase_if(name, [](char c) { return c == '"' || c == '\''; });
      if (name.empty()) continue;  // the list of a group
      tasks.emplace(name, entry.path());
      break;
    }
  }
  return tasks;
}

}  // namespace narrow::evaluate
