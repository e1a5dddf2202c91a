// The oracle: naive, single-threaded, everything in float32, each sum in index order.
#pragma once

#include <memory>

#include "ops/backend.h"

namespace narrow::ops {

std::unique_ptr<Backend> make_reference_backend();

}  // namespace narrow::ops
