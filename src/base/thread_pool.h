// A fixed set of threads for data-parallel loops. Results never depend on the number of threads:
// a loop body owns its range and no reduction crosses ranges.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace narrow {

class ThreadPool {
 public:
  // threads: 0 takes the number of processors this process may run on.
  explicit ThreadPool(int threads = 0);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const;

  // Calls body(begin, end) over disjoint ranges that cover [0, count), each a multiple of `grain`
  // long except the last. The caller works too; returns when all ranges are done. An exception of
  // a body is rethrown here. Not reentrant; one caller at a time.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow
