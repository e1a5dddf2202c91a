#include <iostream>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "cli/prompts.h"
#include "cli/verbs.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, text, prompts_file;
  bool chat = false, decode = false, special = false;
};

void print(const Prompt& prompt) {
  std::cout << to_line({{"id", prompt.id},
                        {"token_ids", prompt.ids},
                        {"count", prompt.ids.size()},
                        {"text", prompt.text}})
            << "\n";
}

void run_line(const Arguments& arguments, const text::Tokenizer& tokenizer,
              const text::ChatTemplate* chat, const std::string& line, int64_t number) {
  const std::string where = "line " + std::to_string(number);
  if (arguments.decode) {
    const Json ids = parse_json(line, where);
    std::vector<int32_t> list;
    for (const Json& id : ids.is_array() ? ids : Json::array({ids})) {
      if (!id.is_number_integer()) throw Error::refused("expected a list of token ids", where);
      list.push_back(id.get<int32_t>());
    }
    std::cout << tokenizer.decode(list) << "\n";
    return;
  }
  Prompt prompt;
  if (arguments.chat) {
    prompt = encode_messages(tokenizer, chat, {{{"role", "user"}, {"content", line}}}, true);
  } else {
    prompt.text = line;
    prompt.ids = tokenizer.encode(
        line, {.add_special = arguments.special, .parse_special = arguments.special});
  }
  prompt.id = std::to_string(number);
  print(prompt);
}

void run(const Arguments& arguments) {
  const auto checkpoint = checkpoint::open(checkpoint::resolve_model(arguments.model));
  const auto& documents = checkpoint->documents();
  const auto tokenizer =
      text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config);
  std::unique_ptr<text::ChatTemplate> chat;
  if (!documents.chat_template.empty())
    chat = std::make_unique<text::ChatTemplate>(documents.chat_template);
  if (!arguments.prompts_file.empty()) {
    for (const Prompt& prompt : read_prompts(arguments.prompts_file, tokenizer, chat.get()))
      print(prompt);
  } else if (!arguments.text.empty()) {
    run_line(arguments, tokenizer, chat.get(), arguments.text, 1);
  } else {
    std::string line;
    for (int64_t number = 1; std::getline(std::cin, line); ++number)
      run_line(arguments, tokenizer, chat.get(), line, number);
  }
}

}  // namespace

void add_tokenize(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("tokenize", "text to token ids and back");
  verb->footer(
      "Examples:\n  narrow tokenize MODEL 'Hello world'\n"
      "  echo '[19556, 905]' | narrow tokenize MODEL --decode\n"
      "  narrow tokenize MODEL --chat < questions.txt");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name")->required();
  verb->add_option("text", arguments->text, "one text; without it, lines of standard input");
  verb->add_option("--prompts", arguments->prompts_file,
                   "JSON lines with id and one of text, token_ids, messages");
  verb->add_flag("--chat", arguments->chat, "each line is a user's message in the chat template");
  verb->add_flag("--decode", arguments->decode, "lines are lists of ids; print their text");
  verb->add_flag("--special", arguments->special,
                 "recognise control tokens in the text and add those the model wants");
  add_globals(*verb, globals);
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace narrow::cli
