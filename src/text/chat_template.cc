#include "text/chat_template.h"

#include "base/error.h"
#include "text/template_eval.h"

namespace narrow::text {
namespace {

using Variables = std::unordered_map<std::string, jinja::Value>;

}  // namespace

struct ChatTemplate::State {
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::string_view source)
    : state_(std::make_unique<State>(
          State{jinja::parse(source, {.trim_blocks = true, .lstrip_blocks = true})})) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::vector<Segment> ChatTemplate::render(const Inputs& inputs) const {
  Variables variables;
  variables["messages"] = jinja::from_json(inputs.messages);
  if (!inputs.tools.is_null()) variables["tools"] = jinja::from_json(inputs.tools);
  variables["add_generation_prompt"] = inputs.add_generation_prompt;
  variables["bos_token"] = jinja::Text::markup(inputs.bos_token);
  variables["eos_token"] = jinja::Text::markup(inputs.eos_token);
  const jinja::Text text = jinja::run(state_->body, variables, /*strict=*/false);
  std::vector<Segment> segments;
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    const bool markup = text.marks[i] == jinja::Text::kMarkup;
    if (segments.empty() || segments.back().markup != markup) segments.push_back({"", markup});
    segments.back().text += text.bytes[i];
  }
  return segments;
}

struct Template::State {
  jinja::Body body;
};

Template::Template(std::string_view source)
    : state_(
          std::make_unique<State>(State{jinja::parse(source, {.keep_trailing_newline = true})})) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

namespace {

Variables variables_of(const Json& object) {
  Variables variables;
  for (const auto& [key, value] : object.items()) variables[key] = jinja::from_json(value);
  return variables;
}

}  // namespace

std::string Template::render(const Json& object) const {
  return jinja::run(state_->body, variables_of(object), /*strict=*/true).bytes;
}

Json Template::evaluate(const Json& object) const {
  const Variables variables = variables_of(object);
  if (const auto value = jinja::run_expression(state_->body, variables))
    return jinja::to_json(*value);
  return jinja::run(state_->body, variables, /*strict=*/true).bytes;
}

std::string join(const std::vector<Segment>& segments) {
  std::string text;
  for (const Segment& segment : segments) text += segment.text;
  return text;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::vector<Segment>& segments) {
  // Text without control tokens in its markup is encoded in one piece with what stands beside it,
  // so that words across the border of markup and content get the ids they have as plain text.
  // The control tokens of the markup are cut out first.
  std::vector<int32_t> ids;
  std::string run;
  const auto flush = [&] {
    const auto encoded = tokenizer.encode(run, {});
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    run.clear();
  };
  for (const Segment& segment : segments) {
    if (!segment.markup) {
      run += segment.text;
      continue;
    }
    for (const auto& piece : tokenizer.split_special(segment.text)) {
      if (piece.id) {
        flush();
        ids.push_back(*piece.id);
      } else {
        run += piece.text;
      }
    }
  }
  flush();
  return ids;
}

}  // namespace narrow::text
