// The rate by which floors of steps are told.
#pragma once

#include <optional>

namespace narrow::benchmarks {

// Bytes a second that copies from the first GPU's memory to its processors reach, if it is a
// Hopper. Throws Error::failed where there is no GPU.
std::optional<double> memory_rate();

}  // namespace narrow::benchmarks
