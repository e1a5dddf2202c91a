// Steps that run on threads of their own, ahead of who needs what they make. They begin in their
// order, `jobs` at a time, and take the processors' spare time: their threads, and those that they
// start, give way to others. wait() is called from one thread.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace narrow::study {

class Ahead {
 public:
  Ahead(std::vector<std::function<void()>> steps, int jobs)
      : steps_(std::move(steps)), done_(steps_.size()) {
    for (int i = 0; i < jobs; ++i)
      threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
  // Waits for the steps that run; those behind them are not begun.
  ~Ahead() {
    for (std::jthread& thread : threads_) thread.request_stop();
  }

  // Until the step is done. Throws what it threw.
  // REQUIRES: once for each step, in their order, none after one that threw.
  void wait(size_t step) { done_[step].get_future().get(); }

 private:
  static constexpr int kNiceness = 10;

  void work(const std::stop_token& stop) {
    // On Linux a thread has a niceness of its own, which the threads it starts inherit. Without the
    // right to raise it, steps only run at the same priority.
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNiceness);
    while (!stop.stop_requested() && !failed_) {
      const size_t step = next_++;
      if (step >= steps_.size()) return;
      try {
        steps_[step]();
        done_[step].set_value();
      } catch (...) {
        failed_ = true;
        done_[step].set_exception(std::current_exception());
      }
    }
  }

  const std::vector<std::function<void()>> steps_;
  std::vector<std::promise<void>> done_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::vector<std::jthread> threads_;  // last: they use all the others
};

}  // namespace narrow::study
