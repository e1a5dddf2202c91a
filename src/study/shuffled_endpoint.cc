#include "study/shuffled_endpoint.h"

#include <algorithm>
#include <memory>

namespace narrow::study {
namespace {

constexpr size_t kHeld = 64;  // requests: about what an evaluation sends without waiting
constexpr auto kHold = std::chrono::milliseconds(5);

// Sends with `ask` and gives what comes to the promise.
template <class Result, class Ask>
std::function<std::function<void()>()> sending(std::shared_ptr<std::promise<Result>> promise,
                                               Ask ask) {
  return [promise, ask = std::make_shared<Ask>(std::move(ask))]() -> std::function<void()> {
    auto future = std::make_shared<std::future<Result>>((*ask)());
    return [promise, future] {
      try {
        promise->set_value(future->get());
      } catch (...) {
        promise->set_exception(std::current_exception());
      }
    };
  };
}

}  // namespace

ShuffledEndpoint::ShuffledEndpoint(endpoint::Endpoint& inner, uint64_t seed)
    : inner_(inner), random_(seed) {
  passing_ = std::thread([this] { pass_on(); });
  answering_ = std::thread([this] { answer(); });
}

ShuffledEndpoint::~ShuffledEndpoint() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  passing_.join();
  answering_.join();
}

std::future<endpoint::GenerateResult> ShuffledEndpoint::generate(endpoint::GenerateRequest request,
                                                                 endpoint::TokenSink sink) {
  const auto promise = std::make_shared<std::promise<endpoint::GenerateResult>>();
  auto result = promise->get_future();
  {
    const std::lock_guard lock(mutex_);
    held_.push_back(sending<endpoint::GenerateResult>(
        promise, [this, request = std::move(request), sink = std::move(sink)]() mutable {
          return inner_.generate(std::move(request), std::move(sink));
        }));
  }
  changed_.notify_all();
  return result;
}

std::future<endpoint::ScoreResult> ShuffledEndpoint::score(endpoint::ScoreRequest request) {
  const auto promise = std::make_shared<std::promise<endpoint::ScoreResult>>();
  auto result = promise->get_future();
  {
    const std::lock_guard lock(mutex_);
    held_.push_back(
        sending<endpoint::ScoreResult>(promise, [this, request = std::move(request)]() mutable {
          return inner_.score(std::move(request));
        }));
  }
  changed_.notify_all();
  return result;
}

void ShuffledEndpoint::pass_on() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !held_.empty(); });
    if (held_.empty()) break;
    changed_.wait_for(lock, kHold, [this] { return ending_ || held_.size() >= kHeld; });
    std::vector<Send> batch = std::move(held_);
    held_.clear();
    std::shuffle(batch.begin(), batch.end(), random_);
    lock.unlock();
    std::vector<std::function<void()>> waits;
    for (Send& send : batch) waits.push_back(send());
    lock.lock();
    sent_.insert(sent_.end(), std::make_move_iterator(waits.begin()),
                 std::make_move_iterator(waits.end()));
    changed_.notify_all();
  }
  passed_all_ = true;
  changed_.notify_all();
}

void ShuffledEndpoint::answer() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return passed_all_ || !sent_.empty(); });
    if (sent_.empty()) break;
    const std::function<void()> wait = std::move(sent_.front());
    sent_.pop_front();
    lock.unlock();
    wait();
    lock.lock();
  }
}

}  // namespace narrow::study
