#include "client/wire.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace narrow::client {
namespace {

using endpoint::Clock;

// Float32 log-softmax leaves a certain token at most some 1e-6 above zero.
constexpr double kRoundingAboveZero = 1e-3;

Json sampling_fields(const endpoint::Sampling& sampling) {
  Json body{{"temperature", sampling.temperature}};
  if (sampling.temperature > 0) {
    body["seed"] = sampling.seed & 0x7fffffff;  // servers read signed 32 or 64 bits
    if (sampling.top_p < 1) body["top_p"] = sampling.top_p;
    if (sampling.top_k > 0) body["top_k"] = sampling.top_k;
  }
  if (!sampling.stop.empty())
    body["stop"] = std::vector(
        sampling.stop.begin(),
        sampling.stop.begin() + static_cast<long>(std::min(sampling.stop.size(), kMostStops)));
  if (sampling.min_tokens > 0) body["min_tokens"] = sampling.min_tokens;
  if (sampling.ignore_eos) body["ignore_eos"] = true;
  return body;
}

const Json& only_choice(const Json& answer, const std::string& where) {
  const auto choices = answer.is_object() ? answer.find("choices") : answer.end();
  if (choices == answer.end() || !choices->is_array() || choices->size() != 1 ||
      !(*choices)[0].is_object())
    throw Error::failed("the answer has no single choice", where);
  if (json_get<int64_t>((*choices)[0], "index", where, 0) != 0)
    throw Error::failed("the answer's choice has another index than 0", where);
  return (*choices)[0];
}

const Json* field(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

int64_t count_of(const Json& value, const char* what, const std::string& where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() > (int64_t{1} << 31))
    throw Error::failed(std::string(what) + " is no count of tokens", where);
  return value.get<int64_t>();
}

double logprob_of(const Json& value, size_t position, const std::string& where) {
  if (!value.is_number() || !std::isfinite(value.get<double>()) ||
      value.get<double>() > kRoundingAboveZero)
    throw Error::failed("no log-probability stands at position " + std::to_string(position), where);
  return value.get<double>();
}

void check_length(const Json& list, size_t least, size_t most, const char* what,
                  const std::string& where) {
  if (list.is_array() && list.size() >= least && list.size() <= most) return;
  throw Error::failed(std::string(what) + " has " +
                          (list.is_array() ? std::to_string(list.size()) : std::string("no")) +
                          " entries for a prompt of " + std::to_string(least) + " tokens",
                      where, "the server added or dropped tokens");
}

endpoint::ScoreResult read_prompt_logprobs(const Json& choice, std::span<const int32_t> ids,
                                           size_t context, int64_t top, const std::string& where) {
  const Json* list = field(choice, "prompt_logprobs");
  if (!list) throw Error::failed("the answer has no \"prompt_logprobs\"", where);
  check_length(*list, ids.size(), ids.size(), "\"prompt_logprobs\"", where);
  endpoint::ScoreResult result;
  for (size_t i = context; i < ids.size(); ++i) {
    const Json& map = (*list)[i];
    const Json* own = field(map, std::to_string(ids[i]).c_str());
    if (!own)
      throw Error::failed("\"prompt_logprobs\" does not name token " + std::to_string(ids[i]) +
                              " at position " + std::to_string(i),
                          where, "the server reads the prompt as other tokens");
    endpoint::TokenLogprob token{
        ids[i], logprob_of(json_get<Json>(*own, "logprob", where), i, where), {}};
    const int64_t rank = json_get<int64_t>(*own, "rank", where);
    std::vector<std::pair<int64_t, std::pair<int32_t, double>>> ranked;
    for (const auto& [key, value] : map.items()) {
      if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != key.npos)
        throw Error::failed("\"prompt_logprobs\" has a key that is no token id", where);
      ranked.push_back({json_get<int64_t>(value, "rank", where),
                        {static_cast<int32_t>(std::stol(key)),
                         logprob_of(json_get<Json>(value, "logprob", where), i, where)}});
    }
    std::sort(ranked.begin(), ranked.end());
    for (const auto& [of, alternative] : ranked)
      if (of <= top) token.top.push_back(alternative);
    if (static_cast<int64_t>(token.top.size()) < top)
      throw Error::failed("fewer alternatives than asked for", where);
    result.tokens.push_back(std::move(token));
    result.greedy.push_back(rank == 1);
  }
  return result;
}

endpoint::ScoreResult read_echo(const Json& choice, size_t generated, std::span<const int32_t> ids,
                                size_t context, int64_t top, const std::string& where) {
  if (top > 0)
    throw Error::failed("this server names alternatives by text, not by token id", where,
                        "a server with prompt_logprobs names ids");
  const Json* logprobs = field(choice, "logprobs");
  const Json* values = logprobs ? field(*logprobs, "token_logprobs") : nullptr;
  const Json* best = logprobs ? field(*logprobs, "top_logprobs") : nullptr;
  if (!values) throw Error::failed("the answer has no \"token_logprobs\"", where);
  if (!best) throw Error::failed("the answer has no \"top_logprobs\"", where);
  // A server may end at once and generate nothing, so the generated token need not be there.
  check_length(*values, ids.size(), ids.size() + generated, "\"token_logprobs\"", where);
  check_length(*best, values->size(), values->size(), "\"top_logprobs\"", where);
  endpoint::ScoreResult result;
  for (size_t i = context; i < ids.size(); ++i) {
    const double own = logprob_of((*values)[i], i, where);
    const Json& map = (*best)[i];
    if (!map.is_object() || map.empty())
      throw Error::failed("\"top_logprobs\" is empty at position " + std::to_string(i), where);
    double largest = -INFINITY;
    for (const auto& [text, value] : map.items())
      largest = std::max(largest, logprob_of(value, i, where));
    result.tokens.push_back({ids[i], own, {}});
    // lm-evaluation-harness's rule: both come from one computation.
    result.greedy.push_back(own == largest);
  }
  return result;
}

// What a vocabulary writes for a blank, at the beginning of a token.
std::string plain(std::string text) {
  for (const std::string_view blank : {"\xC4\xA0", "\xE2\x96\x81"})
    for (size_t at; (at = text.find(blank)) != std::string::npos;)
      text.replace(at, blank.size(), " ");
  return text;
}

}  // namespace

std::string_view name_of(ScoreWay way) {
  switch (way) {
    case ScoreWay::prompt_logprobs:
      return "prompt_logprobs";
    case ScoreWay::echo:
      return "echo, logprobs, max_tokens 0";
    case ScoreWay::echo_and_one:
      return "echo, logprobs, max_tokens 1";
  }
  return "";
}

Json completion_body(const std::string& model, Json prompt, const endpoint::Sampling& sampling,
                     bool return_ids) {
  Json body{{"model", model}, {"prompt", std::move(prompt)}, {"max_tokens", sampling.max_tokens}};
  body.update(sampling_fields(sampling));
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (return_ids) body["return_token_ids"] = true;
  return body;
}

Json chat_body(const std::string& model, const Json& messages, const endpoint::Sampling& sampling) {
  Json body{{"model", model}, {"messages", messages}, {"max_tokens", sampling.max_tokens}};
  body.update(sampling_fields(sampling));
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  return body;
}

Json score_body(const std::string& model, std::span<const int32_t> ids, int64_t top, ScoreWay way) {
  Json body{{"model", model},
            {"prompt", std::vector<int32_t>(ids.begin(), ids.end())},
            {"max_tokens", way == ScoreWay::echo ? 0 : 1},
            {"temperature", 0}};
  if (way == ScoreWay::prompt_logprobs) {
    body["prompt_logprobs"] = std::max<int64_t>(1, top);
  } else {
    body["echo"] = true;
    body["logprobs"] = std::max<int64_t>(1, top);
  }
  return body;
}

int64_t answer_limit_bytes(int64_t tokens) {
  return (int64_t{1} << 20) + 4096 * std::clamp<int64_t>(tokens, 0, int64_t{1} << 18);
}

endpoint::ScoreResult read_scores(const Json& answer, ScoreWay way, std::span<const int32_t> ids,
                                  size_t context, int64_t top, const std::string& where) {
  const Json& choice = only_choice(answer, where);
  if (const Json* usage = field(answer, "usage"))
    if (const Json* count = field(*usage, "prompt_tokens"))
      if (count_of(*count, "\"prompt_tokens\"", where) != static_cast<int64_t>(ids.size()))
        throw Error::failed("the server counts " + count->dump() + " prompt tokens, " +
                                std::to_string(ids.size()) + " were sent",
                            where, "it adds or drops tokens");
  return way == ScoreWay::prompt_logprobs
             ? read_prompt_logprobs(choice, ids, context, top, where)
             : read_echo(choice, way == ScoreWay::echo ? 0 : 1, ids, context, top, where);
}

bool echo_lines_up(const Json& answer, std::span<const int32_t> ids,
                   const text::Tokenizer& tokenizer) {
  const Json* logprobs = field(only_choice(answer, ""), "logprobs");
  const Json* tokens = logprobs ? field(*logprobs, "tokens") : nullptr;
  if (!tokens || !tokens->is_array() || tokens->size() < ids.size()) return false;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!(*tokens)[i].is_string()) return false;
    const auto text = (*tokens)[i].get<std::string>();
    if (text != "token_id:" + std::to_string(ids[i]) &&
        plain(text) != plain(tokenizer.token_bytes(ids[i])))
      return false;
  }
  return true;
}

std::string refusal_text(std::string_view body) {
  std::string text(body);
  try {
    const Json document = parse_json(body, "", {.bytes = 1 << 16, .depth = 16});
    const Json* error = field(document, "error");
    const Json& holder = error && error->is_object() ? *error : document;
    if (error && error->is_string()) text = error->get<std::string>();
    for (const char* key : {"message", "detail"})
      if (const Json* message = field(holder, key); message && message->is_string())
        text = message->get<std::string>();
  } catch (const Error&) {
    // No JSON: the text itself is the message.
  }
  constexpr size_t kMostBytes = 300;
  if (text.size() > kMostBytes) text = text.substr(0, kMostBytes) + "…";
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

GenerationReader::GenerationReader(bool chat, int64_t max_tokens, endpoint::TokenSink sink,
                                   std::string where, std::span<const std::string> stops)
    : chat_(chat),
      max_tokens_(max_tokens),
      sink_(std::move(sink)),
      where_(std::move(where)),
      stops_(stops.begin() + static_cast<long>(std::min(stops.size(), kMostStops)), stops.end()) {}

std::string GenerationReader::up_to_stop(const std::string& piece) {
  if (stops_.empty()) return piece;
  const std::string whole = text_ + piece;
  size_t end = whole.size();
  for (const std::string& stop : stops_) {
    // It may have begun in the pieces before.
    const size_t from = text_.size() - std::min(text_.size(), stop.size());
    end = std::min(end, stop.empty() ? end : whole.find(stop, from));
  }
  if (end == whole.size()) return piece;
  cut_ = finished_ = true;
  finish_ = endpoint::FinishReason::stop;
  if (end < text_.size()) text_.resize(end);
  return whole.substr(text_.size(), end - text_.size());
}

void GenerationReader::usage(const Json& usage) {
  if (const Json* count = field(usage, "prompt_tokens"))
    prompt_tokens_ = count_of(*count, "\"prompt_tokens\"", where_);
  if (const Json* count = field(usage, "completion_tokens")) {
    completion_tokens_ = count_of(*count, "\"completion_tokens\"", where_);
    if (*completion_tokens_ > max_tokens_)
      throw Error::failed("the server generated " + count->dump() + " tokens, at most " +
                              std::to_string(max_tokens_) + " were asked for",
                          where_);
  }
  if (const Json* details = field(usage, "prompt_tokens_details"))
    if (const Json* count = field(*details, "cached_tokens"))
      cached_tokens_ = count_of(*count, "\"cached_tokens\"", where_);
}

void GenerationReader::event(std::string_view data, Clock::time_point now) {
  if (cut_) return;
  if (done_) throw Error::failed("the stream goes on behind [DONE]", where_);
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json chunk = parse_json(data, where_, {.bytes = int64_t{1} << 26, .depth = 32});
  if (const Json* error = field(chunk, "error"))
    throw Error::failed(
        "the server reports: " + refusal_text(Json{{"error", *error}}.dump(
                                     -1, ' ', false, Json::error_handler_t::replace)),
        where_);
  const Json* choices = field(chunk, "choices");
  const Json* counted = field(chunk, "usage");
  const int64_t before = completion_tokens_.value_or(0);
  if (counted) usage(*counted);
  if (!choices || !choices->is_array()) {
    if (!counted) throw Error::failed("an event of the stream has no \"choices\"", where_);
    return;
  }
  if (choices->empty()) return;
  const Json& choice = only_choice(chunk, where_);
  const Json* text = nullptr;
  if (chat_) {
    const Json* delta = field(choice, "delta");
    text = delta ? field(*delta, "content") : nullptr;
  } else {
    text = field(choice, "text");
  }
  if (text && !text->is_string()) throw Error::failed("the text of an event is no text", where_);
  std::vector<int32_t> ids;
  if (const Json* list = field(choice, "token_ids")) {
    if (!list->is_array()) throw Error::failed("\"token_ids\" is no list", where_);
    for (const Json& id : *list)
      ids.push_back(static_cast<int32_t>(
          std::min<int64_t>(count_of(id, "an entry of \"token_ids\"", where_), INT32_MAX)));
  }
  const std::string piece = up_to_stop(text ? text->get<std::string>() : "");
  const int64_t fresh = !ids.empty() ? static_cast<int64_t>(ids.size())
                        : counted
                            ? std::max<int64_t>(0, completion_tokens_.value_or(before) - before)
                            : 0;
  if (!piece.empty() || fresh > 0 || cut_) {
    chunks_.push_back({now, fresh});
    text_ += piece;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    if (static_cast<int64_t>(ids_.size()) > max_tokens_)
      throw Error::failed("the stream has more tokens than were asked for", where_);
    if (sink_) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) sink_(ids[i], "");
      sink_(ids.empty() ? -1 : ids.back(), piece);
    }
  }
  if (const Json* reason = field(choice, "finish_reason"); reason && !cut_) {
    finished_ = true;
    if (*reason == "length") {
      finish_ = endpoint::FinishReason::length;
    } else if (*reason == "stop" || *reason == "eos_token" || *reason == "stop_sequence") {
      finish_ = endpoint::FinishReason::stop;
    } else {
      throw Error::failed("the server ended the answer with finish_reason " +
                              refusal_text(reason->is_string() ? reason->get<std::string>()
                                                               : std::string("of no text")),
                          where_);
    }
  }
}

endpoint::GenerateResult GenerationReader::result(const text::Tokenizer* tokenizer) const {
  endpoint::GenerateResult result;
  result.text = text_;
  result.finish = finish_;
  result.prompt_tokens = prompt_tokens_.value_or(0);
  result.cached_tokens = cached_tokens_;
  result.token_ids =
      ids_.empty() && tokenizer ? tokenizer->encode(text_, {.parse_special = true}) : ids_;
  std::vector<int64_t> counts;
  for (const Chunk& chunk : chunks_) counts.push_back(chunk.tokens);
  const bool said = std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
  if (!said && !counts.empty()) {
    // The total of the usage, as evenly as it goes; without usage a chunk is a token.
    const auto chunks = static_cast<int64_t>(counts.size());
    const int64_t total = completion_tokens_.value_or(chunks);
    for (int64_t i = 0; i < chunks; ++i)
      counts[static_cast<size_t>(i)] = (i + 1) * total / chunks - i * total / chunks;
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto arrived = chunks_[i].arrived;
    const auto from = i == 0 ? arrived : chunks_[i - 1].arrived;
    for (int64_t k = 1; k <= counts[i]; ++k)
      result.timings.tokens.push_back(from + (arrived - from) * k / counts[i]);
  }
  return result;
}

}  // namespace narrow::client
