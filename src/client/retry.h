// When a request is sent again, and how long to wait before. Pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace narrow::client {

struct RetryPolicy {
  int attempts = 6;                      // the first one included
  std::chrono::milliseconds first{500};  // mean wait before the second attempt; doubles from there
  std::chrono::milliseconds longest{30'000};
  // A server that asks for more than this is not waited for: its limit is a daily one.
  std::chrono::milliseconds longest_asked{300'000};
};

// Statuses of a server that may answer the same request later: 408, 425, 429, 500, 502, 503, 504.
bool may_be_repeated(int64_t status);

// Seconds that a Retry-After header asks for: a number, or an HTTP date measured from `now`
// (seconds since 1970). None for what is neither, zero for a date gone by.
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view header, int64_t now);

// Wait after attempt `attempt` (from 1) has failed: exponential with jitter, so that clients turned
// away together do not come back together, and never less than the server asks for.
// jitter: uniform in [0, 1).
std::chrono::milliseconds delay_after(int attempt, const RetryPolicy& policy,
                                      std::optional<std::chrono::milliseconds> asked,
                                      double jitter);

}  // namespace narrow::client
