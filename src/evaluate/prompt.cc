#include "evaluate/prompt.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace narrow::evaluate {
namespace {

// The harness's seed for few-shot sampling.
constexpr uint32_t kFewShotSeed = 1234;

bool blank(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

std::vector<std::string> texts(const Json& list, const std::string& where) {
  std::vector<std::string> result;
  if (!list.is_array()) throw Error::refused("expected a list of texts", where);
  for (const Json& item : list)
    result.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  return result;
}

}  // namespace

Prompter::Prompter(const Task& task, const Subtask& subtask, const PromptOptions& options,
                   const endpoint::Endpoint* endpoint)
    : task_(task),
      subtask_(subtask),
      options_(options),
      endpoint_(endpoint),
      shots_(options.shots.value_or(task.shots)),
      random_(kFewShotSeed) {
  if (shots_ > static_cast<int64_t>(subtask.shots.size())) {
    throw Error::refused("wants " + std::to_string(shots_) + " examples, the data has " +
                             std::to_string(subtask.shots.size()),
                         "task " + subtask.name, "use fewer shots or give the training split");
  }
}

Json Prompter::variables(const Json& doc) const {
  Json all = subtask_.variables;
  for (const auto& [key, value] : doc.items()) all[key] = value;
  return all;
}

std::string Prompter::question(const Json& vars, bool as_example) const {
  const Json value = task_.question->evaluate(vars);
  if (task_.kind != Task::Kind::context) return value.get<std::string>();
  const auto contexts = texts(value, task_.name);
  return as_example ? contexts.at(task_.gold->evaluate(vars).get<size_t>()) : contexts[0];
}

std::string Prompter::example_answer(const Json& vars) const {
  if (task_.answer) return task_.answer->render(vars);
  const auto choices = texts(task_.choices->evaluate(vars), task_.name);
  const Json gold = task_.gold->evaluate(vars);
  const int64_t index =
      gold.is_string() ? std::stoll(gold.get<std::string>()) : gold.get<int64_t>();
  return choices.at(static_cast<size_t>(index));
}

std::vector<const Json*> Prompter::draw() {
  std::vector<const Json*> examples;
  if (shots_ == 0) return examples;
  if (task_.first_shots) {
    for (int64_t i = 0; i < shots_; ++i)
      examples.push_back(&subtask_.shots[static_cast<size_t>(i)]);
  } else {
    // Where the contexts are the choices, the harness draws one example more and leaves the last
    // out.
    const auto pool = static_cast<int64_t>(subtask_.shots.size());
    const int64_t drawn = task_.kind == Task::Kind::context ? std::min(pool, shots_ + 1) : shots_;
    for (int64_t i : random_.sample(pool, drawn))
      examples.push_back(&subtask_.shots[static_cast<size_t>(i)]);
    examples.resize(static_cast<size_t>(shots_));
  }
  return examples;
}

std::string Prompter::wrap_chat(const std::vector<std::pair<std::string, std::string>>& examples,
                                const std::string& last_question) const {
  const text::ChatTemplate* chat = endpoint_ ? endpoint_->chat_template() : nullptr;
  if (!chat) throw Error::refused("the model has no chat template", "task " + task_.name);
  Json messages = Json::array();
  const std::string description =
      task_.description ? task_.description->render(subtask_.variables) : "";
  if (!description.empty()) messages.push_back({{"role", "system"}, {"content", description}});
  for (const auto& [question, answer] : examples) {
    messages.push_back({{"role", "user"}, {"content", question}});
    messages.push_back({{"role", "assistant"}, {"content", answer}});
  }
  messages.push_back({{"role", "user"}, {"content", last_question}});
  text::ChatTemplate::Inputs inputs;
  inputs.messages = std::move(messages);
  const text::Tokenizer& tokenizer = endpoint_->tokenizer();
  if (const auto bos = tokenizer.bos_id()) inputs.bos_token = tokenizer.token_bytes(*bos);
  if (const auto eos = tokenizer.eos_id()) inputs.eos_token = tokenizer.token_bytes(*eos);
  return text::join(chat->render(inputs));
}

Prompt Prompter::next() {
  const Json& doc = subtask_.test.at(index_++);
  const Json vars = variables(doc);
  std::vector<std::pair<std::string, std::string>> examples;
  for (const Json* example : draw()) {
    const Json example_vars = variables(*example);
    examples.emplace_back(question(example_vars, /*as_example=*/true),
                          example_answer(example_vars));
  }
  std::string before = task_.description ? task_.description->render(subtask_.variables) : "";
  for (const auto& [question, answer] : examples) before += question + " " + answer + "\n\n";
  const auto context = [&](const std::string& last) {
    return options_.chat ? wrap_chat(examples, last) : before + last;
  };

  Prompt prompt;
  // Behind a chat template the answer begins a turn: no blank stands before it.
  const std::string delimiter = options_.chat ? "" : " ";
  if (task_.kind == Task::Kind::generate) {
    prompt.contexts.push_back(context(question(vars, false)));
    prompt.target = task_.answer->render(vars);
    return prompt;
  }
  const Json gold = task_.gold->evaluate(vars);
  prompt.gold = gold.is_string() ? std::stoll(gold.get<std::string>()) : gold.get<int64_t>();
  if (task_.kind == Task::Kind::context) {
    prompt.target = task_.answer->render(vars);
    for (const std::string& last : texts(task_.question->evaluate(vars), task_.name)) {
      prompt.contexts.push_back(context(last));
      prompt.continuations.push_back(delimiter + prompt.target);
      prompt.choices.push_back(last);
    }
  } else {
    prompt.contexts.push_back(context(question(vars, false)));
    prompt.choices = texts(task_.choices->evaluate(vars), task_.name);
    for (const std::string& choice : prompt.choices)
      prompt.continuations.push_back(delimiter + choice);
    prompt.target = prompt.choices.at(static_cast<size_t>(prompt.gold));
  }
  return prompt;
}

endpoint::ScoreRequest score_request(const endpoint::Endpoint& endpoint, std::string context,
                                     std::string continuation, bool chat) {
  const text::Tokenizer& tokenizer = endpoint.tokenizer();
  endpoint::ScoreRequest request;
  const text::Tokenizer::EncodeOptions options{.add_special = !chat, .parse_special = chat};
  size_t end = context.size();
  while (end > 0 && blank(context[end - 1])) --end;
  continuation = context.substr(end) + continuation;
  context.resize(end);
  if (context.empty()) {
    const auto start = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
    if (start) request.context = {*start};
    request.continuation =
        tokenizer.encode(continuation, {.add_special = false, .parse_special = chat});
  } else {
    request.context = tokenizer.encode(context, options);
    const auto whole = tokenizer.encode(context + continuation, options);
    const size_t cut = std::min(request.context.size(), whole.size());
    request.continuation.assign(whole.begin() + static_cast<long>(cut), whole.end());
  }
  const auto limit = static_cast<size_t>(endpoint.info().context_tokens);
  const size_t total = request.context.size() + request.continuation.size();
  if (total > limit && request.continuation.size() < limit)
    request.context.erase(request.context.begin(),
                          request.context.begin() + static_cast<long>(total - limit));
  return request;
}

std::vector<int32_t> generation_prompt(const endpoint::Endpoint& endpoint,
                                       const std::string& context, int64_t max_tokens, bool chat) {
  auto ids = endpoint.tokenizer().encode(context, {.add_special = !chat, .parse_special = chat});
  const int64_t limit = endpoint.info().context_tokens - max_tokens;
  if (static_cast<int64_t>(ids.size()) > limit && limit > 0)
    ids.erase(ids.begin(), ids.end() - limit);
  return ids;
}

}  // namespace narrow::evaluate
