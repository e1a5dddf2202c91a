#include "cli/prompts.h"

#include "base/error.h"

namespace narrow::cli {

Prompt encode_messages(const text::Tokenizer& tokenizer, const text::ChatTemplate* chat,
                       const Json& messages, bool add_generation_prompt) {
  if (!chat) throw Error::refused("the model has no chat template");
  text::ChatTemplate::Inputs inputs;
  inputs.messages = messages;
  inputs.add_generation_prompt = add_generation_prompt;
  if (const auto bos = tokenizer.bos_id()) inputs.bos_token = tokenizer.token_bytes(*bos);
  if (const auto eos = tokenizer.eos_id()) inputs.eos_token = tokenizer.token_bytes(*eos);
  const auto segments = chat->render(inputs);
  return {"", text::encode(tokenizer, segments), text::join(segments)};
}

std::vector<Prompt> read_prompts(const std::filesystem::path& file,
                                 const text::Tokenizer& tokenizer, const text::ChatTemplate* chat) {
  std::vector<Prompt> prompts;
  for_each_json_line(file, [&](Json&& row, int64_t line) {
    const std::string where = file.string() + ":" + std::to_string(line);
    Prompt prompt;
    if (row.contains("token_ids")) {
      prompt.ids = json_get<std::vector<int32_t>>(row, "token_ids", where);
    } else if (row.contains("messages")) {
      prompt = encode_messages(tokenizer, chat, row["messages"],
                               json_get<bool>(row, "add_generation_prompt", where, true));
    } else {
      prompt.text = json_get<std::string>(row, "text", where);
      prompt.ids = tokenizer.encode(
          prompt.text, {.add_special = json_get<bool>(row, "add_special_tokens", where, false),
                        .parse_special = false});
    }
    const auto limit = json_get<int64_t>(row, "max_tokens", where, INT64_MAX);
    if (static_cast<int64_t>(prompt.ids.size()) > limit)
      prompt.ids.resize(static_cast<size_t>(std::max<int64_t>(0, limit)));
    const Json id = json_get<Json>(row, "id", where);
    prompt.id = id.is_string() ? id.get<std::string>() : id.dump();
    prompts.push_back(std::move(prompt));
  });
  return prompts;
}

}  // namespace narrow::cli
