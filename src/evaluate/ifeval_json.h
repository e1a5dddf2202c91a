// Whether Python's json.loads would take a text. It differs from base/json.h in what it lets pass:
// NaN and infinities, repeated keys, half surrogates.
#pragma once

#include <string_view>

namespace narrow::evaluate {

// False also for documents nested deeper than 900 levels, where Python gives up (its own limit
// depends on the depth of the call).
bool is_python_json(std::string_view text);

}  // namespace narrow::evaluate
