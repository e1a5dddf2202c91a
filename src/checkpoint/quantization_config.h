// The `quantization_config` object of compressed-tensors, read tolerantly (old files write every
// field, new ones omit the unset) and mapped to Schemes. Immutable; threads may share it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/scheme.h"

namespace narrow::checkpoint {

class QuantizationConfig {
 public:
  // Nothing is quantized.
  QuantizationConfig();
  // config: the whole config.json. Throws Error::refused for another method than
  // compressed-tensors and for schemes that this program does not run.
  QuantizationConfig(const Json& config, const std::string& where);

  // The scheme of one linear layer: exact names win over regular expressions ("re:..."), those
  // over the class name "Linear"; names under `ignore` are dense.
  Scheme scheme(const std::string& module) const;

  // Whether kv_cache_scheme announces scales of keys and values for a cache in 8-bit floating
  // numbers, and whether it is of another kind, which is not run and warned of when it is read.
  bool announces_kv_scales() const;
  bool has_other_kv_scheme() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace narrow::checkpoint
