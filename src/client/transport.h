// One HTTP exchange with a server: POST of JSON or GET, the body handed over as it comes. Bounded
// in size and time, stopped from outside, no redirects (a key must not travel). A Transport keeps
// its connection open from request to request; each thread has its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace narrow::client {

struct TransportOptions {
  std::string api_key;  // sent as a bearer token; empty: none
  std::chrono::milliseconds connect_timeout{30'000};
  std::chrono::milliseconds timeout{600'000};  // of a whole exchange
};

struct Exchange {
  std::string url;
  std::string body;         // POST when not empty
  int64_t limit_bytes = 0;  // of the answer
  // Called with the pieces of a 200 answer, instead of collecting them, when set. An exception it
  // throws ends the exchange and is rethrown.
  std::function<void(std::string_view)> sink;
  std::function<bool()> stopped;  // polled once a second or more often
};

struct Response {
  enum class Outcome {
    answered,   // whole: status and body hold
    broken,     // no connection, or it ended early: may be tried again
    timed_out,  // may be tried again
    too_large,
    stopped,
  };
  Outcome outcome = Outcome::broken;
  int64_t status = 0;
  std::string body;         // of a 200 answer without a sink, or the beginning of a refusal
  std::string retry_after;  // header, empty when absent
  std::string what;         // in words, when not answered
};

class Transport {
 public:
  // Throws Error::failed when libcurl cannot start.
  explicit Transport(const TransportOptions& options);
  ~Transport();
  Transport(const Transport&) = delete;

  Response send(const Exchange& exchange);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::client
