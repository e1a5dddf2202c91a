// Instead of tile_stream.cu in programs that are built without CUDA.
#include "tile_stream.h"

namespace narrow::benchmarks {

std::optional<double> memory_rate() { return {}; }

}  // namespace narrow::benchmarks
