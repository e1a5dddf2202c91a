// Steps that run one after another on a thread of its own, ahead of who needs what they make.
// wait() is called from one thread.
#pragma once

#include <functional>
#include <future>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace narrow::study {

class Ahead {
 public:
  explicit Ahead(std::vector<std::function<void()>> steps)
      : done_(steps.size()), thread_([this, steps = std::move(steps)](const std::stop_token& stop) {
          for (size_t i = 0; i < steps.size() && !stop.stop_requested(); ++i) {
            try {
              steps[i]();
              done_[i].set_value();
            } catch (...) {
              done_[i].set_exception(std::current_exception());
              return;
            }
          }
        }) {}
  // Waits for the step that runs; those behind it are not begun.
  ~Ahead() = default;

  // Until the step is done. Throws what it threw.
  // REQUIRES: once for each step, in their order, none after one that threw.
  void wait(size_t step) { done_[step].get_future().get(); }

 private:
  std::vector<std::promise<void>> done_;
  std::jthread thread_;
};

}  // namespace narrow::study
