#include "endpoint/endpoint.h"

#include <algorithm>

#include "base/error.h"

namespace narrow::endpoint {

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "";
}

double ScoreResult::sum() const {
  double total = 0;
  for (const TokenLogprob& token : tokens) total += token.logprob;
  return total;
}

bool ScoreResult::all_greedy() const {
  return std::all_of(greedy.begin(), greedy.end(), [](bool flag) { return flag; });
}

std::vector<int32_t> encode_chat(const Endpoint& endpoint, const Json& messages,
                                 bool add_generation_prompt) {
  const text::ChatTemplate* chat = endpoint.chat_template();
  if (!chat) {
    throw Error::refused("the model has no chat template", endpoint.info().model,
                         "use plain prompts");
  }
  return encode_chat(endpoint.tokenizer(), *chat, messages, add_generation_prompt);
}

std::vector<int32_t> encode_chat(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                                 const Json& messages, bool add_generation_prompt) {
  text::ChatTemplate::Inputs inputs;
  inputs.messages = messages;
  inputs.add_generation_prompt = add_generation_prompt;
  if (const auto bos = tokenizer.bos_id()) inputs.bos_token = tokenizer.token_bytes(*bos);
  if (const auto eos = tokenizer.eos_id()) inputs.eos_token = tokenizer.token_bytes(*eos);
  return text::encode(tokenizer, chat.render(inputs));
}

std::future<GenerateResult> Endpoint::chat(ChatRequest request, TokenSink sink) {
  return generate({std::move(request.id), encode_chat(*this, request.messages), request.sampling,
                   request.cancel},
                  std::move(sink));
}

}  // namespace narrow::endpoint
