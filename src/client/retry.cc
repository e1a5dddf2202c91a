#include "client/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

namespace narrow::client {

using std::chrono::milliseconds;

bool may_be_repeated(int64_t status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
         status == 503 || status == 504;
}

std::optional<milliseconds> parse_retry_after(std::string_view header, int64_t now) {
  while (!header.empty() && (header.front() == ' ' || header.front() == '\t'))
    header.remove_prefix(1);
  while (!header.empty() && std::string_view(" \t\r\n").find(header.back()) != header.npos)
    header.remove_suffix(1);
  if (header.empty()) return std::nullopt;
  // Some servers send fractions of seconds, which the standard does not know.
  double seconds = 0;
  const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), seconds,
                                            std::chars_format::fixed);
  if (error != std::errc() || end != header.data() + header.size()) {
    const time_t date = curl_getdate(std::string(header).c_str(), nullptr);
    if (date < 0) return std::nullopt;
    seconds = static_cast<double>(date - now);
  }
  if (!std::isfinite(seconds)) return std::nullopt;
  // A year: enough for every comparison, and no overflow.
  return milliseconds(std::llround(std::clamp(seconds, 0.0, 3.2e7) * 1000));
}

milliseconds delay_after(int attempt, const RetryPolicy& policy, std::optional<milliseconds> asked,
                         double jitter) {
  const double mean = std::min(
      static_cast<double>(policy.first.count()) * std::pow(2.0, std::clamp(attempt, 1, 32) - 1),
      static_cast<double>(policy.longest.count()));
  const milliseconds own(std::llround(mean * (0.5 + jitter)));
  // What the server asks for is a minimum; the jitter comes on top of it.
  return asked ? std::max(own, *asked + milliseconds(std::llround(250 * jitter))) : own;
}

}  // namespace narrow::client
