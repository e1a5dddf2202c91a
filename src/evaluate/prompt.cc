#include "evaluate/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/error.h"
#include "evaluate/python_literal.h"

namespace narrow::evaluate {
namespace {

// The harness's seed for few-shot sampling.
constexpr uint32_t kFewShotSeed = 1234;

bool blank(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Control tokens in a context are those of a chat template. BOS is not added to a text that has it.
text::Tokenizer::EncodeOptions encode_options(const text::Tokenizer& tokenizer,
                                              const std::string& context, bool chat) {
  const auto start = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
  const bool begun = chat && start && context.starts_with(tokenizer.token_bytes(*start));
  return {.add_special = !begun, .parse_special = chat};
}

// Leaves of the prompt what fits before `answer` tokens. limit: the context; 0: unknown.
void fit(std::vector<int32_t>& prompt, int64_t answer, int64_t limit, int64_t* cut) {
  if (limit == 0) return;
  if (answer >= limit)
    throw Error::refused(
        fmt::format("an answer of {} tokens leaves no room in a context of {}", answer, limit),
        "a prompt");
  const int64_t over = static_cast<int64_t>(prompt.size()) + answer - limit;
  if (over <= 0) return;
  prompt.erase(prompt.begin(), prompt.begin() + over);
  if (cut) *cut = std::max(*cut, over);
}

}  // namespace

void check_shots(const Task& task, const PromptOptions& options) {
  const int64_t shots = options.shots.value_or(task.shots);
  const int64_t needed =
      shots + (task.leave_out_document && !task.first_shots && shots > 0 ? 1 : 0);
  for (const Subtask& subtask : task.subtasks) {
    const auto pool = static_cast<int64_t>(subtask.shots.size());
    if (shots < 0 || needed > pool)
      throw Error::refused(
          fmt::format("{} examples are drawn from at least {} rows, the data has {}", shots, needed,
                      pool),
          "task " + subtask.name,
          "use fewer shots or give the training split (docs/evaluation.md)");
  }
}

Prompter::Prompter(const Task& task, const Subtask& subtask, const PromptOptions& options,
                   const endpoint::Endpoint* endpoint)
    : task_(task),
      subtask_(subtask),
      options_(options),
      endpoint_(endpoint),
      shots_(options.shots.value_or(task.shots)),
      random_(kFewShotSeed) {}

std::string Prompter::where() const {
  return subtask_.name + ", document " + std::to_string(index_ - 1);
}

Json Prompter::variables(const Json& doc) const {
  Json all = subtask_.variables;
  for (const auto& [key, value] : doc.items()) all[key] = value;
  return all;
}

std::vector<std::string> Prompter::texts(const Json& value) const {
  std::vector<std::string> result;
  // A template of more than one expression renders its list as Python writes it.
  const Json list =
      value.is_string() ? parse_python_literal(value.get<std::string>(), where()) : value;
  if (!list.is_array() || list.empty()) throw Error::refused("expected a list of texts", where());
  for (const Json& item : list)
    result.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  return result;
}

// Index of the right choice: a number, its digits, or the choice itself.
int64_t Prompter::gold(const Json& vars, const std::vector<std::string>& choices) const {
  const Json value = task_.gold->evaluate(vars);
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  int64_t index = -1;
  const auto end = text.data() + text.size();
  if (!text.empty() && std::from_chars(text.data(), end, index).ptr == end) {
    if (index >= 0 && index < static_cast<int64_t>(choices.size())) return index;
    throw Error::refused("\"gold\" is \"" + text + "\", the index of no choice", where());
  }
  const auto found = std::find(choices.begin(), choices.end(), text);
  return found == choices.end() ? -1 : found - choices.begin();
}

// Of a task that compares texts: the answer, or of choices the right one.
std::string Prompter::right_answer(const Json& vars) const {
  if (!task_.choices) return task_.answer->render(vars);
  const auto choices = texts(task_.choices->evaluate(vars));
  const int64_t right = gold(vars, choices);
  if (right < 0) throw Error::refused("\"gold\" is none of the choices", where());
  return choices[static_cast<size_t>(right)];
}

std::vector<std::string> Prompter::several_answers(const Json& vars) const {
  const Json list = parse_python_literal(task_.answer->render(vars), where());
  const bool of_texts = list.is_array() && !list.empty() &&
                        std::ranges::all_of(list, [](const Json& one) { return one.is_string(); });
  if (!of_texts) throw Error::refused("the right answers are no list of texts", where());
  return list.get<std::vector<std::string>>();
}

std::string Prompter::prefix(const Json& vars) const {
  return task_.answer_prefix ? task_.answer_prefix->render(vars) : "";
}

// A question and, unless it is empty, its answer; `prefix` begins the answer, given or to come.
void Prompter::add_turn(std::vector<Message>& messages, std::string question,
                        const std::string& answer, const std::string& prefix) const {
  const bool begun = !prefix.empty();
  const bool blank_between =
      begun && !question.empty() && !blank(question.back()) && !blank(prefix.front());
  const std::string delimiter = (begun ? blank_between : !answer.empty()) ? task_.delimiter : "";
  messages.push_back({"user", std::move(question), delimiter});
  if (!answer.empty()) {
    const bool joined = begun && (blank(prefix.back()) || blank(answer.front()));
    messages.push_back(
        {"assistant", prefix + (begun && !joined ? " " : "") + answer, task_.example_delimiter});
  } else if (begun) {
    messages.push_back({"assistant", prefix, ""});
  }
}

void Prompter::add_example(std::vector<Message>& messages, const Json& doc) const {
  const Json vars = variables(doc);
  if (task_.kind == Task::Kind::generate || task_.kind == Task::Kind::continuation)
    return add_turn(messages, task_.question->render(vars),
                    task_.several_answers ? several_answers(vars)[0] : right_answer(vars),
                    prefix(vars));
  const bool contexts = task_.kind == Task::Kind::context;
  const auto list = texts((contexts ? task_.question : task_.choices)->evaluate(vars));
  const int64_t right = gold(vars, list);
  if (right < 0) throw Error::refused("an example without a right choice", where());
  const std::string& text = list[static_cast<size_t>(right)];
  add_turn(messages, contexts ? text : task_.question->render(vars),
           contexts ? task_.answer->render(vars) : text, prefix(vars));
}

std::vector<const Json*> Prompter::draw(const Json& doc) {
  std::vector<const Json*> examples;
  const auto fits = [&](const Json& row) { return !task_.leave_out_document || row != doc; };
  const auto full = [&] { return static_cast<int64_t>(examples.size()) == shots_; };
  if (shots_ == 0) return examples;
  const auto pool = static_cast<int64_t>(subtask_.shots.size());
  if (task_.first_shots) {
    for (const Json& row : subtask_.shots)
      if (!full() && fits(row)) examples.push_back(&row);
  } else {
    for (int64_t i : random_.sample(pool, shots_ + (task_.leave_out_document ? 1 : 0)))
      if (const Json& row = subtask_.shots[static_cast<size_t>(i)]; !full() && fits(row))
        examples.push_back(&row);
    if (!full()) {  // the document was there more than once: drawn anew from the others
      std::vector<const Json*> others;
      for (const Json& row : subtask_.shots)
        if (fits(row)) others.push_back(&row);
      examples.clear();
      if (static_cast<int64_t>(others.size()) >= shots_)
        for (int64_t i : random_.sample(static_cast<int64_t>(others.size()), shots_))
          examples.push_back(others[static_cast<size_t>(i)]);
    }
  }
  if (!full()) throw Error::refused("too few examples beside the document itself", where());
  return examples;
}

// 0.4.5: one more where examples and documents are of one split (get_context); fewer where the
// document is among them. Without turns get_chat_context draws, and then get_context anew.
std::vector<const Json*> Prompter::draw_0_4_5(const Json& doc) {
  std::vector<const Json*> examples;
  if (shots_ == 0) return examples;
  const auto pool = static_cast<int64_t>(subtask_.shots.size());
  const int64_t count = shots_ + (task_.leave_out_document ? 1 : 0);
  std::vector<int64_t> drawn;
  if (task_.first_shots) {
    for (int64_t i = 0; i < std::min(count, pool); ++i) drawn.push_back(i);
  } else {
    if (options_.chat && !options_.multiturn) random_.sample(pool, count);
    drawn = random_.sample(pool, count);
  }
  for (const int64_t i : drawn)
    if (const Json& row = subtask_.shots[static_cast<size_t>(i)];
        row != doc && static_cast<int64_t>(examples.size()) < shots_)
      examples.push_back(&row);
  return examples;
}

std::string Prompter::render(const std::vector<Message>& messages, bool begun) const {
  if (options_.chat) return render_chat(messages, begun);
  std::string text;
  for (const Message& message : messages) text += message.content + message.delimiter;
  return text;
}

std::string Prompter::render_chat(const std::vector<Message>& messages, bool begun) const {
  const text::ChatTemplate* chat = endpoint_ ? endpoint_->chat_template() : nullptr;
  if (!chat) throw Error::refused("the model has no chat template", "task " + task_.name);
  text::ChatTemplate::Inputs inputs;
  const auto say = [&](const char* role, const std::string& content) {
    inputs.messages.push_back({{"role", role}, {"content", content}});
  };
  std::string together;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const bool last_of_user = i + (begun ? 2 : 1) == messages.size();
    if (options_.multiturn || message.role == std::string("system") ||
        (begun && i + 1 == messages.size())) {
      say(message.role, message.content);
    } else if (together += message.content; last_of_user) {
      say("user", together);
    } else {
      together += message.delimiter;
    }
  }
  inputs.add_generation_prompt = !begun;
  const text::Tokenizer& tokenizer = endpoint_->tokenizer();
  if (const auto bos = tokenizer.bos_id()) inputs.bos_token = tokenizer.token_bytes(*bos);
  if (const auto eos = tokenizer.eos_id()) inputs.eos_token = tokenizer.token_bytes(*eos);
  std::string rendered = text::join(chat->render(inputs));
  if (begun) {  // the turn stays open: transformers' continue_final_message
    const std::string end = stripped(messages.back().content);
    const size_t at = rendered.rfind(end);
    if (at == std::string::npos)
      throw Error::refused("the chat template does not show the last message", where());
    rendered.resize(at + end.size());
  }
  return rendered;
}

Prompt Prompter::next() {
  const Json& doc = subtask_.test.at(index_++);
  const Json vars = variables(doc);
  if (task_.kind == Task::Kind::rolling) {
    Prompt prompt;
    prompt.target = task_.answer->render(vars);
    prompt.contexts = {""};
    prompt.continuations = {prompt.target};
    prompt.counted = task_.counted ? task_.counted->render(vars) : prompt.target;
    return prompt;
  }
  std::vector<Message> before;
  if (task_.description)
    if (std::string text = task_.description->render(vars); !text.empty())
      before.push_back({"system", std::move(text), ""});
  const bool old = task_.harness == Harness::v0_4_5;
  for (const Json* row : old ? draw_0_4_5(doc) : draw(doc)) add_example(before, *row);
  const std::string begin = prefix(vars);
  const bool behind_turn = old && options_.chat && task_.kind == Task::Kind::context;
  if (behind_turn && before.empty())
    throw Error::refused("0.4.5 cannot ask this through a chat template without examples", where());
  const auto context = [&](const std::string& question) {
    std::vector<Message> messages = before;
    if (behind_turn) {
      if (!options_.multiturn) messages.push_back({"user", "", ""});  // the examples' own turn
      return render(messages, false) + question;
    }
    add_turn(messages, question, "", begin);
    return render(messages, !begin.empty());
  };

  Prompt prompt;
  // Behind a chat template the answer begins a turn: no blank stands before it, unless the turn
  // has begun.
  const std::string delimiter =
      options_.chat && !old && (begin.empty() || blank(begin.back())) ? "" : task_.delimiter;
  if (task_.kind == Task::Kind::generate) {
    prompt.contexts.push_back(context(task_.question->render(vars)));
    prompt.target = right_answer(vars);
    if (task_.several_answers) prompt.targets = several_answers(vars);
  } else if (task_.kind == Task::Kind::continuation) {
    prompt.contexts.push_back(context(task_.question->render(vars)));
    prompt.target = task_.answer->render(vars);
    prompt.choices = prompt.continuations = {prompt.target};  // the harness puts nothing between
  } else if (task_.kind == Task::Kind::context) {
    prompt.target = task_.answer->render(vars);
    prompt.choices = texts(task_.question->evaluate(vars));
    for (const std::string& question : prompt.choices) {
      prompt.contexts.push_back(context(question));
      prompt.continuations.push_back(delimiter + prompt.target);
    }
    prompt.gold = gold(vars, prompt.choices);
  } else {
    prompt.contexts.push_back(context(task_.question->render(vars)));
    prompt.choices = texts(task_.choices->evaluate(vars));
    for (const std::string& choice : prompt.choices)
      prompt.continuations.push_back(delimiter + choice);
    prompt.gold = gold(vars, prompt.choices);
    const Json named = task_.gold->evaluate(vars);
    prompt.target = named.is_string() ? named.get<std::string>() : named.dump();
    prompt.gold_is_text =
        prompt.gold < 0 || prompt.target == prompt.choices[static_cast<size_t>(prompt.gold)];
    if (prompt.gold >= 0) prompt.target = prompt.choices[static_cast<size_t>(prompt.gold)];
  }
  return prompt;
}

endpoint::ScoreRequest score_request(const endpoint::Endpoint& endpoint, std::string context,
                                     std::string continuation, bool chat, int64_t* cut) {
  return score_requests(endpoint, std::move(context), {std::move(continuation)}, chat, cut)[0];
}

std::vector<endpoint::ScoreRequest> score_requests(const endpoint::Endpoint& endpoint,
                                                   std::string context,
                                                   const std::vector<std::string>& continuations,
                                                   bool chat, int64_t* cut) {
  const text::Tokenizer& tokenizer = endpoint.tokenizer();
  size_t end = context.size();
  while (end > 0 && blank(context[end - 1])) --end;
  const std::string blanks = context.substr(end);
  context.resize(end);
  const auto start = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
  const auto options = encode_options(tokenizer, context, chat);
  std::vector<int32_t> context_ids;
  if (!context.empty()) {
    context_ids = tokenizer.encode(context, options);
  } else if (start) {
    context_ids = {*start};
  }
  std::vector<endpoint::ScoreRequest> requests;
  for (const std::string& continuation : continuations) {
    endpoint::ScoreRequest request;
    request.context = context_ids;
    if (context.empty()) {
      request.continuation =
          tokenizer.encode(blanks + continuation, {.add_special = false, .parse_special = chat});
    } else {
      const auto whole = tokenizer.encode(context + blanks + continuation, options);
      const size_t boundary = std::min(context_ids.size(), whole.size());
      request.continuation.assign(whole.begin() + static_cast<long>(boundary), whole.end());
    }
    fit(request.context, static_cast<int64_t>(request.continuation.size()),
        endpoint.info().context_tokens, cut);
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<int32_t> generation_prompt(const endpoint::Endpoint& endpoint,
                                       const std::string& context, int64_t max_tokens, bool chat,
                                       int64_t* cut) {
  const text::Tokenizer& tokenizer = endpoint.tokenizer();
  auto ids = tokenizer.encode(context, encode_options(tokenizer, context, chat));
  fit(ids, max_tokens, endpoint.info().context_tokens, cut);
  return ids;
}

}  // namespace narrow::evaluate
