#include "evaluate/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "evaluate/corpus_metric.h"
#include "evaluate/rolling.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

struct Sums {
  int64_t documents = 0;
  double sum = 0, squares = 0;
  double weight = 0, weighted = 0;  // differ from documents and sum where rows have weights

  double mean() const { return sum / static_cast<double>(documents); }
  double variance() const {  // of the sample
    const auto n = static_cast<double>(documents);
    return std::max(0.0, (squares - n * mean() * mean()) / (n - 1));
  }
};

// lm-evaluation-harness writes "metric,filter"; scored choices have the filter "none", and mc2 is
// called acc.
std::string with_filter(const std::string& metric) {
  if (metric == "mc2") return "acc,none";
  return metric.find(',') == std::string::npos ? metric + ",none" : metric;
}

std::string error_name(const std::string& metric) {
  const size_t comma = metric.find(',');
  return metric.substr(0, comma) + "_stderr" + metric.substr(comma);
}

// Python's str() of what JSON holds here: a float (the shortest digits that read back as it), an
// integer or a text.
std::string python_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  std::string digits = fmt::format("{}", value.get<double>());
  if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  return digits;
}

std::string alias_of(const Task& task, const std::string& name) {
  const std::string begin = task.name.substr(0, task.name.find('@')) + "_";
  return name.starts_with(begin) ? name.substr(begin.size()) : name;
}

Json entry_of(const Task& task, const std::vector<Json>& rows, const std::string& name) {
  Json entry{{"alias", alias_of(task, name)}, {"name", name}, {"sample_len", 0}};
  for (const Score& score : summarize(task, rows, name)) {
    entry[score.metric] = score.mean;
    entry[error_name(score.metric)] = score.standard_error ? Json(*score.standard_error) : "N/A";
    entry["sample_len"] = score.documents;
  }
  if (const auto normalized = normalized_score(task, rows, name))
    entry["normalized_score"] = *normalized;
  return entry;
}

// Groups in the order of the task file, each with its subtasks.
std::vector<std::pair<std::string, std::vector<std::string>>> groups_of(const Task& task) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const Subtask& subtask : task.subtasks) {
    if (subtask.group.empty() || subtask.group == task.name) continue;
    if (groups.empty() || groups.back().first != subtask.group)
      groups.push_back({subtask.group, {}});
    groups.back().second.push_back(subtask.name);
  }
  return groups;
}

bool is_single(const Task& task) {
  return task.subtasks.size() == 1 && task.subtasks[0].name == task.name;
}

Json arguments_of(const Task& task, const Json& row) {
  Json arguments = Json::object();
  const Json& prompt = row["prompt"];
  const auto add = [&](size_t i, const Json& context, const Json& second) {
    arguments["gen_args_" + std::to_string(i)] = {{"arg_0", context}, {"arg_1", second}};
  };
  if (task.kind == Task::Kind::generate) {
    add(0, prompt,
        {{"until", task.stop},
         {"do_sample", task.temperature > 0},
         {"temperature", task.temperature},
         {"max_gen_toks", task.max_tokens}});
    return arguments;
  }
  const Json& continuations = row["continuations"];
  if (task.kind == Task::Kind::rolling) {
    arguments["gen_args_0"] = {{"arg_0", continuations.at(0)}};
    return arguments;
  }
  for (size_t i = 0; i < continuations.size(); ++i)
    add(i, prompt.is_array() ? prompt[i] : prompt, continuations[i]);
  return arguments;
}

Json sample(const Task& task, const Subtask& subtask, const Json& row, const std::string& filter) {
  const bool generated = task.kind == Task::Kind::generate,
             rolling = task.kind == Task::Kind::rolling;
  const std::string target = python_text(row["target"]);
  Json line{{"doc_id", row["doc_id"]},
            {"doc", subtask.test.at(row["doc_id"].get<size_t>())},
            {"target", target},
            {"arguments", arguments_of(task, row)}};
  Json responses = Json::array(), filtered = Json::array();
  if (generated) {
    responses.push_back(row.contains("responses") ? row["responses"]
                                                  : Json::array({row["response"]}));
    filtered.push_back(row["answer"].contains(filter) ? row["answer"][filter] : row["response"]);
  } else if (rolling) {
    const std::string sum = python_text(row["loglikelihoods"].at(0));
    responses.push_back(Json::array({sum}));
    filtered.push_back(sum);
  } else {
    for (size_t i = 0; i < row["loglikelihoods"].size(); ++i) {
      const Json pair = Json::array({python_text(row["loglikelihoods"][i]),
                                     row["is_greedy"][i].get<bool>() ? "True" : "False"});
      responses.push_back(Json::array({pair}));
      filtered.push_back(pair);
    }
  }
  line["resps"] = std::move(responses);
  line["filtered_resps"] = std::move(filtered);
  line["filter"] = filter;
  Json names = Json::array();
  Json values = Json::object();
  for (const auto& [metric, value] : row["metrics"].items()) {
    const std::string full = with_filter(metric);
    const size_t comma = full.find(',');
    if (full.substr(comma + 1) != filter) continue;
    names.push_back(full.substr(0, comma));
    // The harness keeps what the score is made of.
    values[full.substr(0, comma)] =
        rolling ? Json::array({row["loglikelihoods"].at(0), row["weights"].at(metric)}) : value;
  }
  line["metrics"] = std::move(names);
  line["doc_hash"] = row["doc_hash"];
  if (row.contains("cut_tokens")) line["cut_tokens"] = row["cut_tokens"];
  line["prompt_hash"] = sha256_hex(line["arguments"]["gen_args_0"].at("arg_0").get<std::string>());
  line["target_hash"] = sha256_hex(target);
  line.update(values);
  return line;
}

}  // namespace

namespace {

// Scores of a metric that is no mean over documents; none for any other. The standard errors of
// f1, mcc and perplexity take the harness a hundred thousand resamplings: they are left out.
std::optional<Score> together(const std::string& metric, const std::vector<const Json*>& rows) {
  if (rows.empty()) return std::nullopt;
  Score score{with_filter(metric), 0, std::nullopt, static_cast<int64_t>(rows.size())};
  const size_t comma = std::min(metric.find(','), metric.size());
  if (const TextMetric* of = find_text_metric(metric.substr(0, comma))) {
    const std::string filter = metric.substr(std::min(comma + 1, metric.size()));
    std::vector<Counts> counts;
    for (const Json* row : rows)
      counts.push_back(of->count(text::repair((*row)["answer"].at(filter).get<std::string>()),
                                 text::repair((*row)["target"].get<std::string>())));
    score.mean = corpus_score(*of, counts);
    if (rows.size() > 1) score.standard_error = corpus_error(*of, counts);
    return score;
  }
  if (const ChoiceMetric* of = find_choice_metric(metric)) {
    ChoicePairs pairs;
    for (const Json* row : rows)
      pairs.emplace_back((*row)["gold"].get<int64_t>(), (*row)["answer"].get<int64_t>());
    score.mean = of->score(pairs);
    return score;
  }
  if (const RollingMetric* of = find_rolling_metric(metric)) {
    double sum = 0, count = 0;
    for (const Json* row : rows) {
      sum += (*row)["loglikelihoods"].at(0).get<double>();
      count += (*row)["weights"].at(metric).get<double>();
    }
    if (count == 0) throw Error::refused("the texts are empty: nothing was scored", metric);
    score.mean = of->score(sum / count);
    return score;
  }
  if (metric == "perplexity") {
    double sum = 0;
    for (const Json* row : rows) sum += (*row)["metrics"].at(metric).get<double>();
    score.mean = std::exp(-sum / static_cast<double>(rows.size()));
    return score;
  }
  return std::nullopt;
}

}  // namespace

std::optional<double> normalized_score(const Task& task, const std::vector<Json>& rows,
                                       const std::string& name) {
  if (task.normalized.empty()) return std::nullopt;
  double sum = 0;
  int64_t count = 0;
  const auto add = [&](const std::string& of, int64_t guess_among) {
    double mean = 0;
    const auto scores = summarize(task, rows, of);
    for (const Score& score : scores)
      for (const std::string& metric : task.normalized)
        if (score.metric == with_filter(metric))
          mean += score.mean / static_cast<double>(task.normalized.size());
    if (scores.empty()) return;
    const double guess = guess_among ? 1.0 / static_cast<double>(guess_among) : 0.0;
    sum += mean < guess ? 0.0 : 100 * (mean - guess) / (1 - guess);
    ++count;
  };
  if (task.normalize_subtasks) {
    for (const Subtask& subtask : task.subtasks)
      if (name == task.name || name == subtask.name || name == subtask.group)
        add(subtask.name, subtask.guess_among);
  } else {
    add(name, task.subtasks[0].guess_among);
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

std::vector<Score> summarize(const Task& task, const std::vector<Json>& rows,
                             const std::string& name) {
  std::map<std::string, const Subtask*> counted;
  for (const Subtask& subtask : task.subtasks)
    if (name == task.name || name == subtask.name || name == subtask.group)
      counted[subtask.name] = &subtask;
  if (counted.empty()) throw Error::refused("no subtask \"" + name + "\"", "task " + task.name);
  std::vector<Score> scores;
  std::vector<const Json*> selected;
  for (const Json& row : rows)
    if (counted.contains(row["subtask"].get<std::string>())) selected.push_back(&row);
  for (const std::string& metric : task.metrics) {
    if (const auto score = together(metric, selected)) {
      scores.push_back(*score);
      continue;
    }
    std::map<std::string, Sums> sums;
    bool weighted = false;
    for (const Json* of_document : selected) {
      const Json& row = *of_document;
      const auto subtask = row["subtask"].get<std::string>();
      const auto value = row["metrics"].at(metric).get<double>();
      Sums& of = sums[subtask];
      const auto weight = row.contains("weights") ? row["weights"].value(metric, 1.0) : 1.0;
      weighted = weighted || weight != 1.0;
      of.weight += weight;
      of.weighted += weight * value;
      ++of.documents;
      of.sum += value;
      of.squares += value * value;
    }
    if (sums.empty()) continue;
    // Of k sets: sum of (n - 1) s² over N - k, over N. Of one set this is its own s²/n.
    Score score{with_filter(metric), 0, std::nullopt, 0};
    double total = 0, weight = 0, spread = 0;
    bool defined = !weighted;
    for (const auto& [subtask, of] : sums) {
      score.documents += of.documents;
      total += of.weighted;
      weight += of.weight;
      defined = defined && of.documents > 1;
      if (defined) spread += static_cast<double>(of.documents - 1) * of.variance();
    }
    const auto all = static_cast<double>(score.documents);
    score.mean = total / weight;
    if (defined)
      score.standard_error = std::sqrt(spread / (all - static_cast<double>(sums.size())) / all);
    scores.push_back(score);
  }
  return scores;
}

bool higher_is_better(const std::string& metric) {
  const TextMetric* of = find_text_metric(metric.substr(0, metric.find(',')));
  return of ? of->higher_is_better : metric != "perplexity" && !find_rolling_metric(metric);
}

double headline(const Evaluated& evaluated) {
  const Task& task = *evaluated.task;
  if (const auto score = normalized_score(task, evaluated.rows, task.name)) return *score;
  const auto scores = summarize(task, evaluated.rows, task.name);
  if (scores.empty()) throw Error::refused("no documents", "task " + task.name);
  for (const char* metric : {"acc_norm", "acc", "mc2", "exact_match,strict-match"})
    for (const Score& score : scores)
      if (score.metric == with_filter(metric)) return 100 * score.mean;
  const std::string& first = scores[0].metric;  // BLEU, chrF and TER are of 100
  const std::string metric = first.substr(0, first.find(','));
  const bool as_it_is =
      metric == "perplexity" || find_text_metric(metric) || find_rolling_metric(metric);
  return (as_it_is ? 1 : 100) * scores[0].mean;
}

Json results_document(const std::vector<Evaluated>& evaluated) {
  Json document{{"results", Json::object()}};
  Json groups = Json::object(), members = Json::object(), configs = Json::object(),
       versions = Json::object(), shots = Json::object(), better = Json::object(),
       samples = Json::object(), suites = Json::object();
  for (const Evaluated& of_task : evaluated) {
    const auto& task = of_task.task;
    const auto& rows = of_task.rows;
    const RunOptions& options = of_task.options;
    if (!of_task.suite.empty()) suites[of_task.suite]["tasks"][task->name] = headline(of_task);
    const auto add = [&](const std::string& name, const Json& version) {
      versions[name] = version;
      shots[name] = options.prompt.shots.value_or(task->shots);
      better[name] = Json::object();
      for (const std::string& metric : task->metrics) {
        const std::string written = with_filter(metric);
        better[name][written.substr(0, written.find(','))] = higher_is_better(metric);
      }
      return document["results"][name] = entry_of(*task, rows, name);
    };
    if (!is_single(*task)) {
      const std::string version = task->group_version.dump();  // a text in the harness too
      members[task->name] = Json::array();
      groups[task->name] = add(task->name, version);
      for (const auto& [group, subtasks] : groups_of(*task)) {
        groups[group] = add(group, version);
        members[group] = subtasks;
        members[task->name].push_back(group);
      }
    }
    for (const Subtask& subtask : task->subtasks) {
      const Json entry = add(subtask.name, task->version);
      configs[subtask.name] = task_key(*task, options);
      samples[subtask.name] = {{"original", subtask.test.size()},
                               {"effective", entry["sample_len"]}};
      const auto cut = std::count_if(rows.begin(), rows.end(), [&](const Json& row) {
        return row["subtask"] == subtask.name && row.contains("cut_tokens");
      });
      if (cut > 0) samples[subtask.name]["cut"] = cut;
      if (!is_single(*task) && (subtask.group.empty() || subtask.group == task->name))
        members[task->name].push_back(subtask.name);
    }
  }
  for (auto& [suite, entry] : suites.items()) {
    double sum = 0;
    for (const auto& [task, score] : entry["tasks"].items()) sum += score.get<double>();
    entry["average"] = sum / static_cast<double>(entry["tasks"].size());
  }
  if (!suites.empty()) document["suites"] = std::move(suites);
  if (!groups.empty()) document["groups"] = std::move(groups);
  document["group_subtasks"] = std::move(members);
  document["configs"] = std::move(configs);
  document["versions"] = std::move(versions);
  document["n-shot"] = std::move(shots);
  document["higher_is_better"] = std::move(better);
  document["n-samples"] = std::move(samples);
  return document;
}

std::string samples_lines(const Task& task, const Subtask& subtask, const std::vector<Json>& rows) {
  std::vector<std::string> filters{"none"};
  if (task.kind == Task::Kind::generate) {
    filters.clear();
    for (const Filter& filter : task.filters) filters.push_back(filter.name);
    if (!task.kinds.empty()) filters.push_back("none");  // judged whole
  }
  std::string lines;
  for (const std::string& filter : filters)
    for (const Json& row : rows)
      if (row["subtask"] == subtask.name)
        lines += to_line(sample(task, subtask, row, filter)) + "\n";
  return lines;
}

}  // namespace narrow::evaluate
