// Chat templates: the part of Jinja that models use, evaluated without attribute access on host
// objects, I/O or imports, and bounded in steps, depth and output. Rendering returns segments so
// that text that came from a user can be tokenized apart from the template's own markup: a user's
// "<|im_end|>" never becomes the control token. Immutable; threads may share it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace narrow::text {

// A piece of rendered text. `markup`: written in the template; otherwise it came from the data.
struct Segment {
  std::string text;
  bool markup = false;
};

class ChatTemplate {
 public:
  // Throws Error::refused with line and column for what is not understood.
  explicit ChatTemplate(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  struct Inputs {
    Json messages = Json::array();  // [{"role", "content"}, ...]
    Json tools = nullptr;
    bool add_generation_prompt = true;
    std::string bos_token, eos_token;
  };
  // Throws Error::refused when the template raises an exception or exceeds a bound.
  std::vector<Segment> render(const Inputs& inputs) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A stand-alone renderer for other Jinja text (task prompts): variables from a JSON object. Same
// language and bounds as chat templates.
class Template {
 public:
  explicit Template(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();
  std::string render(const Json& variables) const;
  // The value of a template that is one expression, "{{choices}}", kept as JSON; a rendered string
  // otherwise.
  Json evaluate(const Json& variables) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string join(const std::vector<Segment>& segments);

// Encodes segment by segment: control tokens are recognised in markup only.
std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::vector<Segment>& segments);

}  // namespace narrow::text
