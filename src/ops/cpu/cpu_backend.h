// The vectorised, multi-threaded backend. Activations are float32; inputs of a linear are rounded
// to bf16 unless its weights are float32 or the scheme quantizes them; sums are float32; the KV
// cache is bf16 (docs/formats.md).
#pragma once

#include <memory>

#include "ops/backend.h"

namespace narrow::ops {

// threads: 0 takes all processors. Throws Error::refused on a processor without AVX2 and FMA.
std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace narrow::ops
