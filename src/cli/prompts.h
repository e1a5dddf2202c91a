// Rows of a --prompts file, shared by generate, score and tokenize.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace narrow::cli {

struct Prompt {
  std::string id;
  std::vector<int32_t> ids;
  std::string text;  // what was encoded; empty for rows of token ids
};

// A row has "id" and one of "text", "token_ids" and "messages". Text is encoded without special
// tokens unless the row says "add_special_tokens"; messages with the chat template and, unless the
// row says "add_generation_prompt": false, the beginning of an answer. "max_tokens" cuts the ids.
// chat may be nullptr. Throws Error::refused naming file and line.
std::vector<Prompt> read_prompts(const std::filesystem::path& file,
                                 const text::Tokenizer& tokenizer, const text::ChatTemplate* chat);

// Ids of `messages` with the template. Throws Error::refused when there is none.
Prompt encode_messages(const text::Tokenizer& tokenizer, const text::ChatTemplate* chat,
                       const Json& messages, bool add_generation_prompt);

}  // namespace narrow::cli
