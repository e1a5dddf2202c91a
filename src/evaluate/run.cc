#include "evaluate/run.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <future>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/wait.h"
#include "evaluate/judge.h"
#include "evaluate/rolling.h"

namespace narrow::evaluate {
namespace {

// Documents in flight, at least: enough to fill a small engine's batches with four choices each.
// Twice what the endpoint runs at once, so that it always has the next one and long answers do not
// hold up the asking.
constexpr int64_t kLeastInFlight = 32;
constexpr int64_t kInFlightPerPlace = 2;

// Verdicts that may be missing while others are made: few programs take a minute, and the ones
// behind must not wait for them. What runs at once is bounded where it costs (CodeJudge).
constexpr size_t kJudgedAtOnce = 256;

// Choices of one token each are read from the best tokens after their one context. Letters are
// nearly always among these; the others are asked for by themselves. No more than servers give.
constexpr int64_t kBestTokens = 20;

struct Asked {
  int64_t index = 0;
  const Subtask* subtask = nullptr;
  int64_t doc_id = 0;
  Prompt prompt;
  int64_t cut = 0;                               // tokens that the longest request lost at the left
  std::vector<endpoint::ScoreRequest> requests;  // by choice, or by window of a text
  std::vector<std::future<endpoint::ScoreResult>> scores;  // the same, or of the first for all
  std::vector<std::future<endpoint::GenerateResult>> generations;  // one per sample
};

bool in_one_pass(const std::vector<endpoint::ScoreRequest>& requests) {
  return requests.size() > 1 && std::all_of(requests.begin(), requests.end(), [&](const auto& one) {
           return one.continuation.size() == 1 && one.context == requests[0].context;
         });
}

void ask(const Task& task, endpoint::Endpoint& endpoint, const RunOptions& options, Asked& asked) {
  const Prompt& prompt = asked.prompt;
  const bool chat = options.prompt.chat;
  if (task.kind == Task::Kind::generate) {
    endpoint::GenerateRequest request;
    request.sampling.max_tokens = asked.subtask->max_tokens.value_or(task.max_tokens);
    request.sampling.stop = task.stop;
    request.sampling.temperature = task.temperature;
    request.sampling.top_p = task.top_p;
    request.prompt = generation_prompt(endpoint, prompt.contexts[0], request.sampling.max_tokens,
                                       chat, &asked.cut);
    for (int64_t sample = 0; sample < task.samples; ++sample) {
      request.sampling.seed = static_cast<uint64_t>(asked.index * task.samples + sample);
      asked.generations.push_back(endpoint.generate(request));
    }
    return;
  }
  if (task.kind == Task::Kind::rolling) {
    asked.requests = rolling_requests(endpoint, prompt.target);
  } else if (prompt.contexts.size() == 1) {
    asked.requests =
        score_requests(endpoint, prompt.contexts[0], prompt.continuations, chat, &asked.cut);
  } else {
    for (size_t i = 0; i < prompt.continuations.size(); ++i)
      asked.requests.push_back(
          score_request(endpoint, prompt.contexts[i], prompt.continuations[i], chat, &asked.cut));
  }
  if (task.kind != Task::Kind::rolling && in_one_pass(asked.requests)) {
    endpoint::ScoreRequest request = asked.requests[0];
    request.top = kBestTokens;
    asked.scores.push_back(endpoint.score(std::move(request)));
    return;
  }
  for (const endpoint::ScoreRequest& request : asked.requests)
    asked.scores.push_back(endpoint.score(request));
}

endpoint::ScoreResult wait_for_score(const Asked& asked,
                                     std::future<endpoint::ScoreResult>& future) {
  auto result = wait_for(future);
  if (!result.error.empty())
    throw Error::failed(result.error,
                        asked.subtask->name + ", document " + std::to_string(asked.doc_id));
  return result;
}

// The likelihoods of all choices from the answer to the first one's request.
void read_choices(endpoint::Endpoint& endpoint, Asked& asked, std::vector<double>& sums,
                  std::vector<bool>& greedy) {
  const size_t choices = asked.requests.size();
  const auto first = wait_for_score(asked, asked.scores[0]);
  sums.assign(choices, 0);
  greedy.assign(choices, false);
  std::vector<std::future<endpoint::ScoreResult>> others(choices);
  for (size_t i = 0; i < choices; ++i) {
    const int32_t id = asked.requests[i].continuation[0];
    const auto& top = first.tokens.at(0).top;
    const auto found =
        std::find_if(top.begin(), top.end(), [&](const auto& one) { return one.first == id; });
    if (i == 0) {
      sums[i] = first.sum();
      greedy[i] = first.all_greedy();
    } else if (found != top.end()) {
      sums[i] = found->second;
      greedy[i] = found == top.begin();
    } else {
      others[i] = endpoint.score(asked.requests[i]);
    }
  }
  for (size_t i = 0; i < choices; ++i) {
    if (!others[i].valid()) continue;
    const auto result = wait_for_score(asked, others[i]);
    sums[i] = result.sum();
    greedy[i] = result.all_greedy();
  }
}

void add_likelihoods(const Task& task, endpoint::Endpoint& endpoint, Asked& asked, Json& row) {
  std::vector<double> sums;
  std::vector<bool> greedy;
  if (asked.scores.size() < asked.requests.size()) {
    read_choices(endpoint, asked, sums, greedy);
  } else {
    for (auto& future : asked.scores) {
      const auto result = wait_for_score(asked, future);
      sums.push_back(result.sum());
      greedy.push_back(result.all_greedy());
    }
  }
  if (task.kind == Task::Kind::rolling) {  // of the windows: one text
    sums = {std::accumulate(sums.begin(), sums.end(), 0.0)};
    greedy = {std::find(greedy.begin(), greedy.end(), false) == greedy.end()};
  }
  // Of weights that became no numbers, say: no answer is the likeliest then, and none is kept.
  for (const double sum : sums)
    if (!std::isfinite(sum))
      throw Error::failed("the model gives a log-likelihood that is no number",
                          asked.subtask->name + ", document " + std::to_string(asked.doc_id));
  row["loglikelihoods"] = sums;
  row["is_greedy"] = greedy;
}

void add_responses(Asked& asked, Json& row) {
  Json responses = Json::array();
  bool cut = false;
  for (auto& future : asked.generations) {
    const auto result = wait_for(future);
    if (result.finish == endpoint::FinishReason::error)
      throw Error::failed(result.error,
                          asked.subtask->name + ", document " + std::to_string(asked.doc_id));
    cut = cut || result.finish == endpoint::FinishReason::length;
    row["finish"] = endpoint::name_of(result.finish);
    responses.push_back(result.text);
  }
  if (cut) row["finish"] = endpoint::name_of(endpoint::FinishReason::length);
  row["response"] = responses[0];
  if (responses.size() > 1) row["responses"] = std::move(responses);
}

// Everything but the verdict.
Json answered_row(const Task& task, endpoint::Endpoint& endpoint, Asked& asked) {
  const Json& doc = asked.subtask->test[static_cast<size_t>(asked.doc_id)];
  const Prompt& prompt = asked.prompt;
  Sha256 prompt_hash;
  for (const std::string& context : prompt.contexts) prompt_hash.add(context + "\n");
  for (const std::string& continuation : prompt.continuations) prompt_hash.add(continuation + "\n");
  Json row{
      {"doc_id", asked.doc_id},
      {"subtask", asked.subtask->name},
      {"doc_hash", sha256_hex(doc.dump(2, ' ', false, Json::error_handler_t::replace))},
      {"prompt_hash", prompt_hash.hex()},
      {"prompt", prompt.contexts.size() == 1 ? Json(prompt.contexts[0]) : Json(prompt.contexts)},
      {"choices", prompt.choices},
      {"continuations", prompt.continuations},
      {"cluster", nullptr}};
  if (task.kind == Task::Kind::generate) {
    add_responses(asked, row);
  } else {
    add_likelihoods(task, endpoint, asked, row);
  }
  if (asked.cut > 0) row["cut_tokens"] = asked.cut;
  return row;
}

int64_t limited(const Subtask& subtask, const RunOptions& options) {
  const auto all = static_cast<int64_t>(subtask.test.size());
  return options.limit ? std::min(all, *options.limit) : all;
}

}  // namespace

Json task_key(const Task& task, const RunOptions& options) {
  Json judges = Json::object();
  for (const MetricKind* kind : task.kinds)
    if (kind->environment) judges[kind->name] = kind->environment();
  return {{"task", task.name},
          {"version", task.version},
          {"judges", std::move(judges)},
          {"yaml_sha256", task.yaml_sha256},
          {"data_sha256", task.data_sha256},
          {"shots", options.prompt.shots.value_or(task.shots)},
          {"limit", options.limit ? Json(*options.limit) : Json()},
          {"chat", options.prompt.chat},
          {"multiturn", options.prompt.chat && options.prompt.multiturn}};
}

int64_t document_count(const Task& task, const RunOptions& options) {
  int64_t total = 0;
  for (const Subtask& subtask : task.subtasks) total += limited(subtask, options);
  return total;
}

void run(const Task& task, endpoint::Endpoint& endpoint, const RunOptions& options,
         const std::set<int64_t>& done, const RowSink& sink,
         const std::function<void()>& answered) {
  check_shots(task, options.prompt);
  const auto most_in_flight = static_cast<size_t>(
      std::max(kLeastInFlight, kInFlightPerPlace * endpoint.info().concurrency));
  std::atomic<int64_t> unanswered = 1;  // documents, and one for the asking itself
  const auto one_answered = [&] {
    if (--unanswered == 0 && answered) answered();
  };
  // Oldest first: asked, then waited for and judged by a thread of its own (a program's tests take
  // seconds), then handed out.
  std::deque<Asked> in_flight;
  std::deque<std::pair<int64_t, std::future<Json>>> judged;
  const auto hand_out_one = [&] {
    auto [index, row] = std::move(judged.front());
    judged.pop_front();
    sink(index, row.get());
  };
  int64_t cut = 0;
  const auto judge_one = [&] {
    if (judged.size() >= kJudgedAtOnce) hand_out_one();
    const int64_t index = in_flight.front().index;
    cut += in_flight.front().cut > 0;
    judged.emplace_back(
        index, std::async(std::launch::async, [&, asked = std::move(in_flight.front())]() mutable {
          Json row = answered_row(task, endpoint, asked);
          one_answered();
          judge(task, asked.subtask->test[static_cast<size_t>(asked.doc_id)], asked.prompt, row);
          return row;
        }));
    in_flight.pop_front();
  };
  int64_t index = 0;
  for (const Subtask& subtask : task.subtasks) {
    Prompter prompter(task, subtask, options.prompt, &endpoint);
    const int64_t documents = limited(subtask, options);
    for (int64_t doc = 0; doc < documents; ++doc, ++index) {
      throw_if_interrupted();
      // Built even when the row is there: the few-shot generator must advance.
      Asked asked{index, &subtask, doc, prompter.next(), 0, {}, {}, {}};
      if (done.contains(index)) continue;
      ask(task, endpoint, options, asked);
      ++unanswered;
      in_flight.push_back(std::move(asked));
      if (in_flight.size() >= most_in_flight) judge_one();
    }
  }
  while (!in_flight.empty()) judge_one();
  one_answered();
  while (!judged.empty()) hand_out_one();
  if (cut > 0)
    log::warning("{}: prompts longer than the model's context, cut at the left: {}", task.name,
                 cut);
}

}  // namespace narrow::evaluate
