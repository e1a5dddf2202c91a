#include "client/client.h"

#include <fmt/format.h>

#include <condition_variable>
#include <ctime>
#include <deque>
#include <mutex>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "client/sse.h"
#include "client/transport.h"

namespace narrow::client {
namespace {

using endpoint::Clock;
using endpoint::FinishReason;
using endpoint::GenerateResult;
using endpoint::ScoreResult;

constexpr int64_t kEventBytes = int64_t{1} << 20;
constexpr int64_t kModelListBytes = int64_t{4} << 20;
// Plain words and a digit: several tokens in any vocabulary, each with a spelling of its own.
constexpr const char* kProbeText = "The answer to the question is 42, and so on.";

struct Failure {
  std::string what;
  bool again = false;    // may pass when sent again
  bool stopped = false;  // by the caller
  std::optional<std::chrono::milliseconds> asked = std::nullopt;
  int64_t status = 0;  // of the server, where it answered
};

// ".../v1" from what people give: the host, the base, or the address of a request.
std::string base_of(std::string url) {
  const auto cut = [&](std::string_view end) {
    if (url.ends_with(end)) url.resize(url.size() - end.size());
  };
  cut("/");
  cut("/chat/completions");
  cut("/completions");
  cut("/");
  const size_t host = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  if (host == 0 || url.size() == host || url.find_first_of(" \t\r\n\"<>#?") != url.npos)
    throw Error::refused("no address of a server", url, "give http://HOST:PORT");
  if (url.find('@') != url.npos)
    throw Error::refused("a user name or password in the address", "--endpoint",
                         "put the key into an environment variable and name it (--api-key-env)");
  return url.ends_with("/v1") ? url : url + "/v1";
}

Failure failure_of(const Response& response) {
  Failure failure;
  failure.status = response.status;
  switch (response.outcome) {
    case Response::Outcome::answered:
      failure.what =
          fmt::format("the server answers {}: {}", response.status, refusal_text(response.body));
      failure.again = may_be_repeated(response.status);
      failure.asked = parse_retry_after(response.retry_after, std::time(nullptr));
      break;
    case Response::Outcome::broken:
    case Response::Outcome::timed_out:
      failure.what = response.what;
      failure.again = true;
      break;
    case Response::Outcome::too_large:
      failure.what = response.what;
      break;
    case Response::Outcome::stopped:
      failure.stopped = true;
      break;
  }
  return failure;
}

}  // namespace

struct Client::State {
  Options options;
  std::string base;
  std::optional<Vocabulary> vocabulary;
  endpoint::Info info;
  Abilities abilities;
  TransportOptions transport;

  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void(Transport&)>> queue;
  bool stopping = false;
  Clock::time_point next_slot{}, not_before{};  // rate limit; what the server asked all to wait
  std::mt19937_64 random{std::random_device{}()};
  std::vector<std::jthread> threads;  // last: they use all of the above

  const text::Tokenizer* tokenizer() const { return vocabulary ? &vocabulary->tokenizer : nullptr; }

  void enqueue(std::function<void(Transport&)> job) {
    const std::lock_guard lock(mutex);
    queue.push_back(std::move(job));
    wake.notify_one();
  }

  // Takes jobs until the end; those still waiting then find `stopping` and end as cancelled.
  void work() {
    Transport connection(transport);
    while (true) {
      std::function<void(Transport&)> job;
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stopping || !queue.empty(); });
        if (queue.empty()) return;
        job = std::move(queue.front());
        queue.pop_front();
      }
      job(connection);
    }
  }

  bool ending() {
    const std::lock_guard lock(mutex);
    return stopping || interrupted();
  }

  // False when stopped before `until`.
  template <class Stopped>
  bool sleep_until(Clock::time_point until, const Stopped& stopped) {
    while (Clock::now() < until) {
      if (stopped()) return false;
      std::this_thread::sleep_until(std::min(until, Clock::now() + std::chrono::milliseconds(20)));
    }
    return !stopped();
  }

  // Waits for this request's turn.
  template <class Stopped>
  bool wait_turn(const Stopped& stopped) {
    Clock::time_point turn;
    {
      const std::lock_guard lock(mutex);
      turn = std::max(Clock::now(), not_before);
      if (options.requests_per_minute > 0) {
        turn = std::max(turn, next_slot);
        next_slot = turn + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(60 / options.requests_per_minute));
      }
    }
    return sleep_until(turn, stopped);
  }

  // Calls `attempt` until it succeeds (none), fails for good or has been tried often enough.
  std::optional<Failure> repeat(
      const std::stop_token& cancel,
      const std::function<std::optional<Failure>(const std::function<bool()>& stopped)>& attempt) {
    const std::function<bool()> stopped = [&] { return cancel.stop_requested() || ending(); };
    for (int count = 1;; ++count) {
      if (!wait_turn(stopped)) return Failure{.what = "stopped", .stopped = true};
      std::optional<Failure> failure = attempt(stopped);
      if (!failure || failure->stopped) return failure;
      const bool too_long = failure->asked && *failure->asked > options.retry.longest_asked;
      if (!failure->again || too_long || count >= options.retry.attempts) {
        if (too_long)
          failure->what += fmt::format("; it asks to wait {} s", failure->asked->count() / 1000);
        else if (count > 1)
          failure->what += fmt::format(" ({} attempts)", count);
        return failure;
      }
      double jitter = 0;
      {
        const std::lock_guard lock(mutex);
        jitter = std::uniform_real_distribution<double>(0, 1)(random);
        // A server that asks to wait asks all of us.
        if (failure->asked) not_before = std::max(not_before, Clock::now() + *failure->asked);
      }
      const auto delay = delay_after(count, options.retry, failure->asked, jitter);
      log::debug("{}: {}; again in {} ms", base, failure->what, delay.count());
      if (!sleep_until(Clock::now() + delay, stopped))
        return Failure{.what = "stopped", .stopped = true};
    }
  }

  // The JSON answer to one POST (or GET with an empty body), or why there is none.
  std::optional<Failure> ask(Transport& connection, const std::string& path,
                             const std::string& body, int64_t limit_bytes,
                             const std::stop_token& cancel,
                             const std::function<void(const Json&)>& read) {
    return repeat(cancel, [&](const std::function<bool()>& stopped) -> std::optional<Failure> {
      const Response response = connection.send({base + path, body, limit_bytes, {}, stopped});
      if (response.outcome != Response::Outcome::answered || response.status != 200)
        return failure_of(response);
      try {
        read(parse_json(response.body, base + path, {.bytes = limit_bytes, .depth = 32}));
      } catch (const Error& error) {
        return Failure{.what = error.what(), .status = response.status};
      }
      return std::nullopt;
    });
  }

  GenerateResult stream(Transport& connection, const std::string& path, const Json& body, bool chat,
                        const endpoint::GenerateRequest& request, const endpoint::TokenSink& sink) {
    const std::string url = base + path;
    const Clock::time_point sent = Clock::now();
    const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
    GenerateResult result;
    const auto failure =
        repeat(request.cancel, [&](const std::function<bool()>& stopped) -> std::optional<Failure> {
          GenerationReader reader(chat, request.sampling.max_tokens, sink, url,
                                  request.sampling.stop);
          SseReader events(kEventBytes, url,
                           [&](std::string_view data) { reader.event(data, Clock::now()); });
          const int64_t limit = answer_limit_bytes(request.sampling.max_tokens);
          try {
            const Response response = connection.send(
                {url, text, limit, [&](std::string_view bytes) { events.push(bytes); },
                 [&] { return reader.cut() || stopped(); }});
            if (reader.cut()) {
              result = reader.result(tokenizer());
              return std::nullopt;
            }
            const bool fed = sink && reader.started();
            if (response.outcome != Response::Outcome::answered || response.status != 200) {
              Failure of = failure_of(response);
              of.again = of.again && !fed;
              return of;
            }
            events.finish();
            if (!reader.complete())
              return Failure{.what = "the stream ends before the answer does", .again = !fed};
            result = reader.result(tokenizer());
            return std::nullopt;
          } catch (const Error& error) {
            return Failure{.what = error.what()};
          }
        });
    if (failure) {
      result = {};
      result.finish = failure->stopped ? FinishReason::cancelled : FinishReason::error;
      if (!failure->stopped) result.error = failure->what;
    }
    result.id = request.id;
    result.timings.sent = sent;
    result.timings.finished = Clock::now();
    return result;
  }

  // tokens: of the prompt, which the server must count alike; 0: unknown.
  std::future<GenerateResult> start_stream(std::string path, Json body, bool chat,
                                           endpoint::GenerateRequest request,
                                           endpoint::TokenSink sink, int64_t tokens = 0) {
    auto promise = std::make_shared<std::promise<GenerateResult>>();
    auto future = promise->get_future();
    if (request.sampling.logprobs > 0) {
      GenerateResult result;
      result.id = request.id;
      result.error = "a server does not say which tokens its log-probabilities belong to";
      promise->set_value(std::move(result));
      return future;
    }
    enqueue([this, promise, path = std::move(path), body = std::move(body), chat,
             request = std::move(request), sink = std::move(sink), tokens](Transport& connection) {
      auto result = stream(connection, path, body, chat, request, sink);
      if (tokens > 0 && result.prompt_tokens > 0 && result.prompt_tokens != tokens &&
          result.finish != FinishReason::error) {
        result.finish = FinishReason::error;
        result.error = fmt::format("the server counts {} tokens in a prompt of {}",
                                   result.prompt_tokens, tokens);
      }
      promise->set_value(std::move(result));
    });
    return future;
  }

  void check_model(Transport& connection) {
    std::vector<std::string> names;
    const auto failure =
        ask(connection, "/models", "", kModelListBytes, {}, [&](const Json& answer) {
          const auto data = answer.is_object() ? answer.find("data") : answer.end();
          if (data == answer.end() || !data->is_array()) return;
          for (const Json& item : *data) {
            names.push_back(json_get<std::string>(item, "id", base + "/models"));
            if (names.back() == options.model)
              info.context_tokens = json_get<int64_t>(item, "max_model_len", base + "/models",
                                                      options.context_tokens);
          }
        });
    if (failure && (failure->status == 401 || failure->status == 403))
      throw Error::refused(failure->what, base,
                           "name the environment variable with the key (--api-key-env)");
    // Some servers have no list; a request will tell.
    if (failure && failure->status >= 400 && failure->status < 500) return;
    if (failure) throw Error::failed(failure->what, base);
    if (names.empty() || std::find(names.begin(), names.end(), options.model) != names.end())
      return;
    std::string list;
    for (size_t i = 0; i < std::min<size_t>(names.size(), 20); ++i)
      list += (i ? ", " : "") + refusal_text(names[i]);
    throw Error::refused("the server has no model \"" + options.model + "\"", base,
                         "it has: " + list);
  }

  // One completion by token ids or, of a server that refuses them, by their text; says whether the
  // server counts the tokens as we do.
  void check_ids(Transport& connection, const std::vector<int32_t>& ids) {
    Json body = score_body(options.model, ids, 0, ScoreWay::prompt_logprobs);
    body.erase("prompt_logprobs");
    auto failure = probe(connection, body, ids.size());
    if (failure && (failure->status == 400 || failure->status == 422)) {
      body["prompt"] = text_of(ids).value_or("");
      if (!probe(connection, body, ids.size())) {
        abilities.texts_only = true;
        return;
      }
    }
    if (failure && failure->status == 0) throw Error::failed(failure->what, base);
    if (failure)
      throw Error::refused("the server takes no prompts of token ids: " + failure->what, base,
                           "evaluation and load need /v1/completions with token ids, or with texts "
                           "that the tokenizer of the served model (--tokenizer) counts alike");
  }

  std::optional<Failure> probe(Transport& connection, Json body, size_t tokens) {
    std::optional<Failure> failure;
    for (const bool return_ids : {true, false}) {
      if (return_ids)
        body["return_token_ids"] = true;
      else
        body.erase("return_token_ids");
      failure = ask(
          connection, "/completions", body.dump(), answer_limit_bytes(64), {},
          [&](const Json& answer) {
            const Json count =
                json_get<Json>(json_get<Json>(answer, "usage", base), "prompt_tokens", base);
            if (count != tokens)
              throw Error::failed(fmt::format("{} token ids were sent, the server counts {} tokens",
                                              tokens, refusal_text(count.dump())));
            const Json choices = json_get<Json>(answer, "choices", base);
            abilities.returns_ids = return_ids && choices.is_array() && choices.size() == 1 &&
                                    choices[0].is_object() &&
                                    choices[0].value("token_ids", Json()).is_array();
          });
      if (!failure || (failure->status != 400 && failure->status != 422)) break;
    }
    return failure;
  }

  // The text that the vocabulary reads as these ids; none when there is none.
  std::optional<std::string> text_of(const std::vector<int32_t>& ids) const {
    std::string text = vocabulary->tokenizer.decode(ids);
    if (vocabulary->tokenizer.encode(text, {.parse_special = true}) != ids) return std::nullopt;
    return text;
  }

  void find_way(Transport& connection, const std::vector<int32_t>& ids) {
    std::string tried;
    for (const ScoreWay way : {ScoreWay::prompt_logprobs, ScoreWay::echo, ScoreWay::echo_and_one}) {
      const auto failure =
          ask(connection, "/completions", score_body(options.model, ids, 0, way).dump(),
              answer_limit_bytes(64), {}, [&](const Json& answer) {
                read_scores(answer, way, ids, 1, 0, "");
                if (way != ScoreWay::prompt_logprobs &&
                    !echo_lines_up(answer, ids, vocabulary->tokenizer))
                  throw Error::failed("the echoed tokens are not those that were sent");
              });
      if (!failure) {
        abilities.scoring = way;
        return;
      }
      if (failure->status == 0) throw Error::failed(failure->what, base);
      tried += fmt::format("\n  {}: {}", name_of(way), failure->what);
    }
    throw Error::refused("the server gives no log-probabilities of a prompt", base + tried,
                         "tasks that score choices need them; tasks that generate do not");
  }
};

Client::Client(Options options, std::optional<Vocabulary> vocabulary)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.base = base_of(options.url);
  if (options.model.empty()) throw Error::refused("the model has no name", "--model");
  for (const char c : options.api_key)
    if (static_cast<unsigned char>(c) < 0x21 || static_cast<unsigned char>(c) > 0x7e)
      throw Error::refused("the API key has a character that no header may carry");
  state.transport = {options.api_key, TransportOptions{}.connect_timeout, options.timeout};
  state.info = {.model = options.model,
                .format = "served",
                .backend = options.model + " at " + state.base,
                .context_tokens = options.context_tokens,
                .concurrency = std::clamp(options.concurrency, 1, 1024)};
  state.vocabulary = std::move(vocabulary);
  state.options = std::move(options);
  for (int64_t i = 0; i < state.info.concurrency; ++i)
    state.threads.emplace_back([&state] { state.work(); });
}

Client::~Client() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  state_->threads.clear();
}

Abilities Client::prepare(const Needs& needs) {
  State& state = *state_;
  const bool by_ids = needs.token_ids || needs.scores;
  const auto ids = by_ids ? tokenizer().encode(kProbeText, {}) : std::vector<int32_t>();
  Transport connection(state.transport);
  state.check_model(connection);
  if (by_ids) {
    state.check_ids(connection, ids);
    if (needs.scores && state.abilities.texts_only)
      throw Error::refused("the server takes prompts as text only", state.base,
                           "tasks that score choices need token ids; tasks that generate do not");
    if (needs.scores) state.find_way(connection, ids);
  }
  throw_if_interrupted();
  return state.abilities;
}

const endpoint::Info& Client::info() const { return state_->info; }

const text::Tokenizer& Client::tokenizer() const {
  if (!state_->vocabulary)
    throw Error::refused("the tokenizer of the served model is not known", state_->base,
                         "name a folder with its tokenizer.json, or a .gguf file (--tokenizer)");
  return state_->vocabulary->tokenizer;
}

const text::ChatTemplate* Client::chat_template() const {
  return state_->vocabulary ? state_->vocabulary->chat.get() : nullptr;
}

std::future<GenerateResult> Client::generate(endpoint::GenerateRequest request,
                                             endpoint::TokenSink sink) {
  Json prompt = request.prompt;
  if (state_->abilities.texts_only) {
    const auto text = state_->text_of(request.prompt);
    if (!text) {
      GenerateResult result;
      result.id = request.id;
      result.error = "the server takes texts only, and no text gives these tokens";
      std::promise<GenerateResult> promise;
      promise.set_value(std::move(result));
      return promise.get_future();
    }
    prompt = *text;
  }
  Json body = completion_body(state_->options.model, std::move(prompt), request.sampling,
                              state_->abilities.returns_ids);
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  return state_->start_stream("/completions", std::move(body), false, std::move(request),
                              std::move(sink), tokens);
}

std::future<GenerateResult> Client::generate_text(endpoint::GenerateRequest request,
                                                  std::string prompt, endpoint::TokenSink sink) {
  Json body = completion_body(state_->options.model, std::move(prompt), request.sampling,
                              state_->abilities.returns_ids);
  return state_->start_stream("/completions", std::move(body), false, std::move(request),
                              std::move(sink));
}

std::future<GenerateResult> Client::chat(endpoint::ChatRequest request, endpoint::TokenSink sink) {
  Json body = chat_body(state_->options.model, request.messages, request.sampling);
  endpoint::GenerateRequest plain{std::move(request.id), {}, request.sampling, request.cancel};
  return state_->start_stream("/chat/completions", std::move(body), true, std::move(plain),
                              std::move(sink));
}

std::future<ScoreResult> Client::score(endpoint::ScoreRequest request) {
  auto promise = std::make_shared<std::promise<ScoreResult>>();
  auto future = promise->get_future();
  State& state = *state_;
  std::string refusal;
  if (!state.abilities.scoring) refusal = "the server was not asked how it scores";
  if (request.context.empty()) refusal = "a server scores no token without one before it";
  if (!refusal.empty()) {
    promise->set_value({.id = request.id, .tokens = {}, .greedy = {}, .error = refusal});
    return future;
  }
  state.enqueue([&state, promise, request = std::move(request)](Transport& connection) {
    std::vector<int32_t> ids = request.context;
    ids.insert(ids.end(), request.continuation.begin(), request.continuation.end());
    ScoreResult result;
    const ScoreWay way = *state.abilities.scoring;
    const auto failure = state.ask(
        connection, "/completions", score_body(state.options.model, ids, request.top, way).dump(),
        answer_limit_bytes(static_cast<int64_t>(ids.size())), {}, [&](const Json& answer) {
          result = read_scores(answer, way, ids, request.context.size(), request.top,
                               state.base + "/completions");
        });
    if (failure) result.error = failure->what.empty() ? "stopped" : failure->what;
    result.id = request.id;
    promise->set_value(std::move(result));
  });
  return future;
}

}  // namespace narrow::client
