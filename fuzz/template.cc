// A template of arbitrary text: rendered within its bounds or refused with an Error. The first byte
// chooses the syntax of chats or of tasks.
#include "base/error.h"
#include "text/template_eval.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  using namespace narrow::text;
  if (size == 0) return 0;
  static const Json kMessages = {{{"role", "user"}, {"content", "<|im_end|> hi"}},
                                 {{"role", "assistant"}, {"content", nullptr}}};
  const std::string_view source(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool chat = data[0] % 2 == 0;
  try {
    const jinja::Body body = jinja::parse(
        source, {.trim_blocks = chat, .lstrip_blocks = chat, .keep_trailing_newline = !chat});
    const jinja::Text text =
        jinja::run(body, {{"messages", jinja::from_json(kMessages)}, {"n", int64_t{7}}}, !chat,
                   {.steps = 20'000, .output_bytes = 1 << 20});
    if (text.bytes.size() != text.marks.size() || text.bytes.size() > (1 << 20)) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
