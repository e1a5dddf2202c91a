#include "evaluate/judge.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "evaluate/corpus_metric.h"
#include "evaluate/rolling.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

int64_t characters(const std::string& text) {
  int64_t count = 0;
  for (std::string_view rest = text; !rest.empty(); ++count)
    rest.remove_prefix(std::max<size_t>(1, text::character_length(rest)));
  return count;
}

int64_t largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

// The score a metric of all documents together gives this one alone.
double score_alone(const TextMetric& of, const std::string& answer, const std::string& target) {
  return corpus_score(of, {of.count(text::repair(answer), text::repair(target))});
}

// TruthfulQA: the share of probability that the true answers hold among all.
double true_share(const Json& document, const std::vector<double>& sums, const std::string& where) {
  const auto labels = json_get<std::vector<int64_t>>(json_get<Json>(document, "mc2_targets", where),
                                                     "labels", where);
  if (labels.size() != sums.size())
    throw Error::refused("\"labels\" are not as many as the choices", where);
  const double most = *std::max_element(sums.begin(), sums.end());
  double right = 0, all = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    const double mass = std::exp(sums[i] - most);
    all += mass;
    if (labels[i] == 1) right += mass;
  }
  return right / all;
}

void judge_choice(const Task& task, const Json& document, const Prompt& prompt,
                  const std::string& where, Json& row) {
  const auto sums = json_get<std::vector<double>>(row, "loglikelihoods", where);
  if (sums.empty() || sums.size() != prompt.choices.size())
    throw Error::refused("as many log-likelihoods as choices were expected", where);
  row["answer"] = largest(sums);
  Json metrics = Json::object();
  for (const std::string& metric : task.metrics) {
    if (metric == "mc2") {
      metrics[metric] = true_share(document, sums, where);
      continue;
    }
    std::vector<double> values = sums;
    if (metric == "acc_norm")
      for (size_t i = 0; i < values.size(); ++i)
        values[i] /= static_cast<double>(characters(prompt.choices[i]));
    if (metric == "acc_bytes")
      for (size_t i = 0; i < values.size(); ++i)
        values[i] /= static_cast<double>(prompt.choices[i].size());
    metrics[metric] = largest(values) == prompt.gold ? 1.0 : 0.0;
    if (find_choice_metric(metric)) row["gold"] = prompt.gold;
  }
  row["metrics"] = std::move(metrics);
  // As the harness does, which puts the contexts of such a task where others have their target.
  const bool text = task.kind == Task::Kind::context || prompt.gold_is_text;
  row["target"] = text ? Json(prompt.target) : Json(prompt.gold);
}

void judge_continuation(const Task& task, const Prompt& prompt, const std::string& where,
                        Json& row) {
  const auto sums = json_get<std::vector<double>>(row, "loglikelihoods", where);
  const auto greedy = json_get<std::vector<bool>>(row, "is_greedy", where);
  if (sums.size() != 1 || greedy.size() != 1)
    throw Error::refused("the log-likelihood of one continuation was expected", where);
  row["answer"] = 0;
  row["metrics"] = Json::object();
  for (const std::string& metric : task.metrics)
    row["metrics"][metric] = metric == "perplexity" ? sums[0] : greedy[0] ? 1.0 : 0.0;
  row["target"] = prompt.target;
}

// In a row a metric is the log-likelihood of a word (byte), weighed by their number.
void judge_rolling(const Task& task, const Prompt& prompt, const std::string& where, Json& row) {
  const auto sums = json_get<std::vector<double>>(row, "loglikelihoods", where);
  if (sums.size() != 1) throw Error::refused("the log-likelihood of one text was expected", where);
  row["answer"] = 0;
  row["metrics"] = Json::object();
  row["weights"] = Json::object();
  for (const std::string& metric : task.metrics) {
    const int64_t count = find_rolling_metric(metric)->of_words
                              ? count_words(prompt.counted)
                              : static_cast<int64_t>(prompt.counted.size());
    row["metrics"][metric] = count > 0 ? sums[0] / static_cast<double>(count) : 0.0;
    row["weights"][metric] = count;
  }
  row["target"] = prompt.target;
}

void judge_generation(const Task& task, const Json& document, const Prompt& prompt,
                      const std::string& where, Json& row) {
  const auto responses = row.contains("responses")
                             ? json_get<std::vector<std::string>>(row, "responses", where)
                             : std::vector{json_get<std::string>(row, "response", where)};
  if (responses.empty()) throw Error::refused("no response", where);
  Json answers = Json::object(), weights = Json::object();
  Json metrics = Json::object();
  for (const std::string& metric : task.metrics) metrics[metric] = 0.0;
  const auto score = [&](const std::string& metric, const std::vector<std::string>& of,
                         auto score_of) {
    if (!metrics.contains(metric)) return;
    double sum = 0;
    for (const std::string& answer : of) sum += score_of(answer);
    metrics[metric] = sum / static_cast<double>(of.size());
  };
  for (const Filter& filter : task.filters) {
    const auto filtered = filter.answers(responses, document);
    answers[filter.name] = filtered.front();
    score("exact_match," + filter.name, filtered, [&](const std::string& answer) {
      const auto matches = [&](const std::string& target) {
        return task.exact_match.matches(answer, target);
      };
      const bool right = prompt.targets.empty() ? matches(prompt.target)
                                                : std::ranges::any_of(prompt.targets, matches);
      return right ? 1.0 : 0.0;
    });
    for (const TextMetric& of : text_metrics())
      score(of.name + ("," + filter.name), filtered,
            [&](const std::string& answer) { return score_alone(of, answer, prompt.target); });
  }
  for (const MetricKind* kind : task.kinds) {
    if (!kind->judge) continue;
    std::map<std::string, double> sums;
    for (const std::string& response : responses) {
      const auto judged = kind->judge(document, response);
      for (size_t i = 0; i < judged.size(); ++i) {
        sums[kind->metrics[i]] += judged[i].value;
        if (judged[i].weight != 1) weights[kind->metrics[i]] = judged[i].weight;
      }
    }
    for (const auto& [metric, sum] : sums)
      if (metrics.contains(metric)) metrics[metric] = sum / static_cast<double>(responses.size());
  }
  for (const MetricKind* kind : task.kinds) {
    if (!kind->judge_together) continue;
    const auto judged = kind->judge_together(document, responses, row["verdicts"]);
    for (size_t i = 0; i < judged.size(); ++i) metrics[kind->metrics[i]] = judged[i].value;
  }
  row["answer"] = std::move(answers);
  row["target"] = prompt.target;
  row["metrics"] = std::move(metrics);
  row.erase("weights");
  if (!weights.empty()) row["weights"] = std::move(weights);
}

}  // namespace

void judge(const Task& task, const Json& document, const Prompt& prompt, Json& row) {
  const std::string where =
      "task " + task.name + ", document " + row.value("doc_id", Json()).dump();
  if (task.kind == Task::Kind::generate) {
    judge_generation(task, document, prompt, where, row);
  } else if (task.kind == Task::Kind::continuation) {
    judge_continuation(task, prompt, where, row);
  } else if (task.kind == Task::Kind::rolling) {
    judge_rolling(task, prompt, where, row);
  } else {
    judge_choice(task, document, prompt, where, row);
  }
}

std::vector<Json> rescore(const Task& task, std::vector<Json> rows) {
  std::map<std::string, std::vector<Json*>> by_subtask;
  for (Json& row : rows)
    by_subtask[json_get<std::string>(row, "subtask", "task " + task.name)].push_back(&row);
  for (const Subtask& subtask : task.subtasks) {
    const auto found = by_subtask.find(subtask.name);
    if (found == by_subtask.end()) continue;
    // Neither examples nor a chat template change which answer is right.
    PromptOptions options;
    options.shots = 0;
    Prompter prompter(task, subtask, options, nullptr);
    std::vector<Prompt> prompts;
    for (Json* row : found->second) {
      const auto doc = json_get<size_t>(*row, "doc_id", "subtask " + subtask.name);
      if (doc >= subtask.test.size())
        throw Error::refused("a row of document " + std::to_string(doc) + ", the data has " +
                                 std::to_string(subtask.test.size()),
                             "subtask " + subtask.name);
      while (prompts.size() <= doc) prompts.push_back(prompter.next());
      judge(task, subtask.test[doc], prompts[doc], *row);
    }
    by_subtask.erase(found);
  }
  if (!by_subtask.empty())
    throw Error::refused("rows of \"" + by_subtask.begin()->first + "\", which it does not have",
                         "task " + task.name);
  return rows;
}

}  // namespace narrow::evaluate
