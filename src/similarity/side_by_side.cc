#include "similarity/side_by_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/error.h"

namespace narrow::similarity {
namespace {

namespace fs = std::filesystem;

// One document of one folder.
struct Sample {
  std::vector<std::string> prompts, choices;
  std::string target;
  SampleSide side;
};

using Key = std::pair<std::string, int64_t>;  // task, document

// samples_<task>.jsonl, in the harness samples_<task>_<2025-01-31T12-00-00.123>.jsonl.
std::string task_of(const std::string& file) {
  std::string task = file.substr(8, file.size() - 8 - 6);
  const size_t at = task.rfind('_');
  const std::string tail = at == std::string::npos ? "" : task.substr(at + 1);
  if (tail.size() > 11 && tail[4] == '-' && tail[7] == '-' && tail[10] == 'T') task.resize(at);
  return task;
}

int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Prompts and, where choices were scored, continuations. Of texts that were scored whole the text
// is all there is.
void read_arguments(const Json& arguments, const std::string& where, Sample& sample) {
  if (!arguments.is_object() || arguments.empty())
    throw Error::refused("\"arguments\" is no object of requests", where);
  for (const auto& [name, request] : arguments.items()) {
    const auto prompt = as_text(json_get<Json>(request, "arg_0", where));
    if (std::find(sample.prompts.begin(), sample.prompts.end(), prompt) == sample.prompts.end())
      sample.prompts.push_back(prompt);
    const Json second = json_get<Json>(request, "arg_1", where, Json());
    if (second.is_string()) sample.choices.push_back(second.get<std::string>());
  }
}

void read_responses(const Json& responses, const std::string& where, Sample& sample) {
  if (!responses.is_array()) throw Error::refused("\"resps\" is no list", where);
  for (const Json& response : responses) {
    const Json first = response.is_array() && !response.empty() ? response[0] : response;
    if (sample.choices.empty()) {
      if (!sample.side.text.empty()) sample.side.text += "\n--- next answer\n";
      sample.side.text += as_text(first);
      continue;
    }
    // ["-12.5", "False"]: texts, or numbers in older files.
    if (!first.is_array() || first.empty())
      throw Error::refused("a response is no pair of log-likelihood and greedy", where);
    const std::string number = as_text(first[0]);
    char* end = nullptr;
    sample.side.loglikelihoods.push_back(std::strtod(number.c_str(), &end));
    if (number.empty() || *end != '\0')
      throw Error::refused("a log-likelihood is no number", where);
  }
  if (!sample.choices.empty() && sample.choices.size() != sample.side.loglikelihoods.size())
    throw Error::refused("as many responses as choices are wanted", where);
}

void read_scores(const Json& line, const std::string& filter, const std::string& where,
                 Sample& sample) {
  const Json names = json_get<Json>(line, "metrics", where);
  if (!names.is_array()) throw Error::refused("\"metrics\" is no list", where);
  for (const Json& name : names) {
    const std::string metric = as_text(name);
    const auto value = line.find(metric);
    if (value == line.end()) continue;
    if (value->is_number() || value->is_boolean())
      sample.side.scores.emplace_back(metric + "," + filter, value->is_boolean()
                                                                 ? (value->get<bool>() ? 1.0 : 0.0)
                                                                 : value->get<double>());
  }
}

// -1 where no score is a number.
int headline(const SampleSide& side) {
  for (const char* name : {"acc_norm,", "acc,", "mc2,"})
    for (size_t i = 0; i < side.scores.size(); ++i)
      if (side.scores[i].first.starts_with(name)) return static_cast<int>(i);
  return side.scores.empty() ? -1 : 0;
}

double headline_score(const SampleSide& side) {
  const int at = headline(side);
  return at < 0 ? 0 : side.scores[static_cast<size_t>(at)].second;
}

void choose(Sample& sample) {
  SampleSide& side = sample.side;
  if (side.loglikelihoods.empty()) return;
  const int at = headline(side);
  const bool normalized =
      at >= 0 && side.scores[static_cast<size_t>(at)].first.starts_with("acc_norm,");
  std::vector<double> values;
  for (size_t i = 0; i < side.loglikelihoods.size(); ++i) {
    // The blank before a choice is the harness's, not the choice's.
    const int64_t length =
        characters(sample.choices[i]) - (sample.choices[i].starts_with(' ') ? 1 : 0);
    values.push_back(side.loglikelihoods[i] /
                     (normalized ? static_cast<double>(std::max<int64_t>(1, length)) : 1.0));
  }
  side.chosen =
      static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

void read_file(const fs::path& file, const std::string& task, std::map<Key, Sample>& samples) {
  for_each_json_line(file, [&](Json&& line, int64_t number) {
    const std::string where = file.string() + ":" + std::to_string(number);
    if (!line.is_object()) throw Error::refused("no object", where);
    const auto filter = json_get<std::string>(line, "filter", where, "none");
    const Json doc_id = json_get<Json>(line, "doc_id", where);
    if (!doc_id.is_number_integer()) throw Error::refused("\"doc_id\" is no whole number", where);
    Sample& sample = samples[{task, doc_id.get<int64_t>()}];
    if (sample.prompts.empty()) {
      sample.target = as_text(json_get<Json>(line, "target", where));
      read_arguments(json_get<Json>(line, "arguments", where), where, sample);
      read_responses(json_get<Json>(line, "resps", where), where, sample);
    }
    for (const auto& [known, text] : sample.side.filtered)
      if (known == filter)
        throw Error::refused("the document is there twice", where,
                             "a folder of several runs? keep the files of one");
    const Json filtered = json_get<Json>(line, "filtered_resps", where);
    sample.side.filtered.emplace_back(
        filter, as_text(filtered.is_array() && filtered.size() == 1 ? filtered[0] : filtered));
    read_scores(line, filter, where, sample);
  });
}

bool belongs(const std::string& subtask, const std::string& task) {
  return task.empty() || subtask == task || subtask.starts_with(task + "_");
}

std::map<Key, Sample> read_folder(const fs::path& folder, const std::string& task) {
  if (!fs::is_directory(folder))
    throw Error::refused("no folder of results", folder.string(), "narrow eval -o makes one");
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("samples_") && name.ends_with(".jsonl")) files.push_back(entry.path());
  }
  if (files.empty())
    throw Error::refused("no samples_*.jsonl", folder.string(), "narrow eval -o writes them");
  std::sort(files.begin(), files.end());
  std::map<Key, Sample> samples;
  for (const fs::path& file : files) {
    const std::string subtask = task_of(file.filename().string());
    if (belongs(subtask, task)) read_file(file, subtask, samples);
  }
  for (auto& [key, sample] : samples) choose(sample);
  return samples;
}

std::string printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result;
}

std::string verdict(const SampleSide& side) {
  std::string text;
  for (const auto& [name, value] : side.scores)
    text += fmt::format("{}{} {:g}", text.empty() ? "" : ", ", name, value);
  return text.empty() ? "no score" : text;
}

void add_generated(std::string& text, const std::string& name, const SampleSide& side) {
  text += fmt::format("--- {}: {}\n{}\n", printable(name), verdict(side), printable(side.text));
  for (const auto& [filter, answer] : side.filtered)
    if (filter != "none") text += fmt::format("    {}: {}\n", filter, printable(answer));
}

// Characters that both texts begin with.
int64_t common_characters(const std::string& a, const std::string& b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return characters(std::string(a.begin(), at));
}

Json side_json(const SampleSide& side) {
  Json scores = Json::object(), filtered = Json::object();
  for (const auto& [name, value] : side.scores) scores[name] = value;
  for (const auto& [name, value] : side.filtered) filtered[name] = value;
  Json document{{"scores", scores}};
  if (side.loglikelihoods.empty()) {
    document["text"] = side.text;
    document["filtered"] = filtered;
  } else {
    document["loglikelihoods"] = side.loglikelihoods;
    document["chosen"] = *side.chosen;
  }
  return document;
}

}  // namespace

double SamplePair::base_score() const { return headline_score(base); }
double SamplePair::variant_score() const { return headline_score(variant); }
bool SamplePair::lost() const { return base_score() > 0.5 && variant_score() <= 0.5; }
bool SamplePair::gained() const { return base_score() <= 0.5 && variant_score() > 0.5; }
bool SamplePair::diverged() const {
  return choices.empty() ? base.text != variant.text : base.chosen != variant.chosen;
}

SamplePairs pair_samples(const fs::path& base, const fs::path& variant, const std::string& task) {
  auto of_base = read_folder(base, task), of_variant = read_folder(variant, task);
  if (of_base.empty() && of_variant.empty())
    throw Error::refused("no samples of task \"" + task + "\"",
                         base.string() + " and " + variant.string());
  SamplePairs result;
  for (auto& [key, sample] : of_base) {
    const auto found = of_variant.find(key);
    if (found == of_variant.end()) {
      ++result.only_base;
      continue;
    }
    if (found->second.prompts != sample.prompts || found->second.choices != sample.choices)
      throw Error::refused("document " + std::to_string(key.second) + " of " + key.first +
                               " was not asked in the same words",
                           base.string() + " and " + variant.string(),
                           "evaluate both with the same options and template");
    result.pairs.push_back({key.first, key.second, std::move(sample.prompts),
                            std::move(sample.choices), std::move(sample.target),
                            std::move(sample.side), std::move(found->second.side)});
  }
  result.only_variant =
      static_cast<int64_t>(of_variant.size()) - static_cast<int64_t>(result.pairs.size());
  return result;
}

std::string to_text(const SamplePair& pair, const std::string& base_name,
                    const std::string& variant_name) {
  const char* change = pair.lost()               ? "right → wrong"
                       : pair.gained()           ? "wrong → right"
                       : pair.base_score() > 0.5 ? "both right"
                                                 : "both wrong";
  std::string text = fmt::format("=== {} document {}: {}", pair.task, pair.doc_id, change);
  if (pair.choices.empty() && pair.diverged())
    text += fmt::format(", texts differ from character {} on",
                        common_characters(pair.base.text, pair.variant.text) + 1);
  text += "\n";
  for (const std::string& prompt : pair.prompts) text += "--- prompt\n" + printable(prompt) + "\n";
  text += "--- target: " + printable(pair.target) + "\n";
  if (pair.choices.empty()) {
    add_generated(text, base_name, pair.base);
    add_generated(text, variant_name, pair.variant);
    return text + "\n";
  }
  text += fmt::format("--- {}: {}\n--- {}: {}\n", printable(base_name), verdict(pair.base),
                      printable(variant_name), verdict(pair.variant));
  text += "log-likelihoods (* chosen): base, variant, choice\n";
  for (size_t i = 0; i < pair.choices.size(); ++i)
    text += fmt::format("{:>10.4f}{} {:>10.4f}{} {}\n", pair.base.loglikelihoods[i],
                        pair.base.chosen == i ? '*' : ' ', pair.variant.loglikelihoods[i],
                        pair.variant.chosen == i ? '*' : ' ', printable(pair.choices[i]));
  return text + "\n";
}

Json to_json(const SamplePair& pair) {
  Json document{{"task", pair.task}, {"doc_id", pair.doc_id}, {"prompts", pair.prompts}};
  if (!pair.choices.empty()) document["choices"] = pair.choices;
  document["target"] = pair.target;
  document["base"] = side_json(pair.base);
  document["variant"] = side_json(pair.variant);
  document["lost"] = pair.lost();
  document["gained"] = pair.gained();
  document["diverged"] = pair.diverged();
  return document;
}

}  // namespace narrow::similarity
