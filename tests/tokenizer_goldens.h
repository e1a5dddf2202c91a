// Tokenizers and chat templates against Hugging Face's (tests/goldens/tokenizer/README.md).
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace narrow {

inline text::Tokenizer tokenizer_of(const checkpoint::Checkpoint& checkpoint) {
  return text::Tokenizer::from_json(checkpoint.documents().tokenizer,
                                    checkpoint.documents().tokenizer_config);
}

inline void compare_strings(const text::Tokenizer& tokenizer, const std::string& golden) {
  int64_t rows = 0;
  for_each_json_line(golden, [&](Json&& row, int64_t) {
    const auto text = row["text"].get<std::string>();
    SCOPED_TRACE(row["id"].dump() + ": " + text);
    ++rows;
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = true}), ids);
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true, .parse_special = true}),
              row["ids_with_special"].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer.decode(ids), row["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/true),
              row["decoded_skip_special"].get<std::string>());
    const auto alone = row["tokens_decoded"].get<std::vector<std::string>>();
    for (size_t i = 0; i < alone.size(); ++i)
      EXPECT_EQ(tokenizer.decode(std::span(&ids[i], 1)), alone[i]);
  });
  EXPECT_GE(rows, 200);
}

// Chats as transformers renders and encodes them.
inline void compare_chats(const checkpoint::Checkpoint& checkpoint, const std::string& golden) {
  const text::Tokenizer tokenizer = tokenizer_of(checkpoint);
  const text::ChatTemplate chat(checkpoint.documents().chat_template);
  int64_t rendered = 0;
  for_each_json_line(golden, [&](Json&& row, int64_t) {
    SCOPED_TRACE(row.dump());
    text::ChatTemplate::Inputs inputs;
    inputs.messages = row["messages"];
    inputs.tools = row.value("tools", Json());
    inputs.add_generation_prompt = row["add_generation_prompt"].get<bool>();
    if (row.contains("error")) {
      EXPECT_THROW(chat.render(inputs), Error);
      return;
    }
    const auto segments = chat.render(inputs);
    EXPECT_EQ(text::join(segments), row["text"].get<std::string>());
    EXPECT_EQ(tokenizer.encode(text::join(segments), {.parse_special = true}),
              row["ids"].get<std::vector<int32_t>>());
    // chat7 holds control tokens in a user's text: transformers lets them through, this does not.
    const bool injection = row["id"] == "chat7";
    EXPECT_EQ(text::encode(tokenizer, segments) == row["ids"].get<std::vector<int32_t>>(),
              !injection);
    ++rendered;
  });
  EXPECT_GT(rendered, 5);
}

}  // namespace narrow
