// config.json of arbitrary bytes, quantization_config included.
#include "base/error.h"
#include "checkpoint/model_config.h"
#include "checkpoint/quantization_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    const Json config = parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    try {
      const checkpoint::ModelConfig parsed = checkpoint::parse_model_config(config, "config.json");
      if (parsed.parameters() <= 0 || parsed.heads % parsed.kv_heads != 0) std::abort();
    } catch (const Error&) {
    }
    const checkpoint::QuantizationConfig quantization(config, "config.json");
    for (const char* module : {"model.layers.0.self_attn.q_proj", "lm_head", ""})
      quantization.scheme(module);
  } catch (const Error&) {
  }
  return 0;
}
