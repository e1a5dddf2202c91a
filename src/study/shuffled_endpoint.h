// An endpoint that hands requests to another in a different order: what arrives close together is
// held for a few milliseconds and passed on shuffled. The answers must not depend on it; the A/A
// run of a study asks through it, so that every request meets other neighbours than the first time.
//
// Threads: generate() and score() may be called from any. Two threads of its own pass requests on
// and answers back; both end in the destructor, which waits for what is in flight.
// Owns nothing but its queues; the inner endpoint must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "endpoint/endpoint.h"

namespace narrow::study {

class ShuffledEndpoint : public endpoint::Endpoint {
 public:
  ShuffledEndpoint(endpoint::Endpoint& inner, uint64_t seed);
  ~ShuffledEndpoint() override;

  const endpoint::Info& info() const override { return inner_.info(); }
  std::string fingerprint() const override { return inner_.fingerprint(); }
  const text::Tokenizer& tokenizer() const override { return inner_.tokenizer(); }
  const text::ChatTemplate* chat_template() const override { return inner_.chat_template(); }
  std::string failure() const override { return inner_.failure(); }
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink sink = {}) override;
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override;

 private:
  // Passes a request on and answers how to wait for its result.
  using Send = std::function<std::function<void()>()>;
  void pass_on();
  void answer();

  endpoint::Endpoint& inner_;
  std::mt19937_64 random_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Send> held_;
  std::deque<std::function<void()>> sent_;
  bool ending_ = false, passed_all_ = false;
  std::thread passing_, answering_;
};

}  // namespace narrow::study
