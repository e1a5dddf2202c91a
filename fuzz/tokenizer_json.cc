// A tokenizer.json of arbitrary text: refused with an Error, or a tokenizer that encodes and
// decodes.
#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    const auto tokenizer =
        text::Tokenizer::from_json(std::string(reinterpret_cast<const char*>(data), size), "");
    const std::string_view text = "Hi there, 123 \xc3\xa4<|im_end|>\n\n";
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
      tokenizer.decode(ids);
    }
  } catch (const Error&) {
  }
  return 0;
}
