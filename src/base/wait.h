// Waiting for what other threads make, without missing Ctrl-C.
#pragma once

#include <chrono>
#include <future>

#include "base/interrupt.h"

namespace narrow {

// The future's result. Throws Error(Kind::interrupted) where the user has asked to stop before it
// is there.
template <class Result>
Result wait_for(std::future<Result>& future) {
  while (future.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready)
    throw_if_interrupted();
  return future.get();
}

}  // namespace narrow
