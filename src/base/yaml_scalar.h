// A quoted scalar of YAML, read from the source. yaml-cpp 0.7 loses line breaks before the closing
// quote, all but one, and writes \_ and \N as bytes that are no UTF-8. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace narrow {

// The scalar whose opening quote, ' or ", stands at `at`, as PyYAML reads it: lines are folded, in
// double quotes escapes are replaced. None where no quote stands there, for an escape that YAML
// does not have and where the scalar does not end.
std::optional<std::string> quoted_scalar(std::string_view text, size_t at);

}  // namespace narrow
