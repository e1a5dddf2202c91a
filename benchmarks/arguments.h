// Numbers on the command lines of benchmarks.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace narrow::benchmarks {

// A number of rows, tokens or sequences. Throws Error::refused unless it is one from 1 on.
inline int64_t count_of(std::string_view argument) {
  int64_t count = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, count);
  if (error != std::errc() || rest != end || count < 1)
    throw Error::refused("\"" + std::string(argument) + "\" is not a number from 1 on");
  return count;
}

}  // namespace narrow::benchmarks
