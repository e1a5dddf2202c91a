#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace narrow {
namespace {

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable work_ready, work_done;
  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t count = 0, step = 1;
  std::atomic<int64_t> next{0};
  int64_t generation = 0;
  int busy = 0;
  bool stopping = false;
  std::exception_ptr failure;

  void run_ranges() {
    while (true) {
      const int64_t begin = next.fetch_add(step);
      if (begin >= count) return;
      try {
        (*body)(begin, std::min(count, begin + step));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  }

  void work() {
    int64_t seen = 0;
    std::unique_lock lock(mutex);
    while (true) {
      work_ready.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      lock.unlock();
      run_ranges();
      lock.lock();
      if (--busy == 0) work_done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int total = threads > 0 ? threads : available_processors();
  for (int i = 1; i < total; ++i) state_->workers.emplace_back([this] { state_->work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work_ready.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  State& state = *state_;
  if (state.workers.empty() || count <= grain) {
    body(0, count);
    return;
  }
  // Four ranges a thread even out uneven ones without much traffic on `next`.
  const int64_t ranges = int64_t{4} * threads();
  const int64_t step = ((count + ranges - 1) / ranges + grain - 1) / grain * grain;
  {
    std::lock_guard lock(state.mutex);
    state.body = &body;
    state.count = count;
    state.step = step;
    state.next = 0;
    state.failure = nullptr;
    state.busy = static_cast<int>(state.workers.size());
    ++state.generation;
  }
  state.work_ready.notify_all();
  state.run_ranges();
  std::unique_lock lock(state.mutex);
  state.work_done.wait(lock, [&] { return state.busy == 0; });
  if (state.failure) std::rethrow_exception(state.failure);
}

}  // namespace narrow
