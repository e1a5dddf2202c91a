// config.json of a text encoder, of arbitrary bytes: refused with an Error, or sizes that fit.
#include "base/error.h"
#include "checkpoint/encoder_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    const auto config = checkpoint::parse_encoder_config(
        parse_json({reinterpret_cast<const char*>(data), size}, "config.json"), "config.json");
    if (config.hidden % config.heads != 0 || config.longest_input() < 3 || config.layers < 1 ||
        config.padding_id < 0 || config.padding_id >= config.vocabulary)
      std::abort();
  } catch (const Error&) {
  }
  return 0;
}
