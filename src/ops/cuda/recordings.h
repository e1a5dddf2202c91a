// Steps recorded as CUDA graphs: one launch from the host instead of hundreds.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace narrow::ops::cuda {

class Recordings {
 public:
  Recordings() = default;
  Recordings(const Recordings&) = delete;
  Recordings& operator=(const Recordings&) = delete;
  ~Recordings() { clear(); }

  // Enqueues what `enqueue` does. The first time of a key directly, so that all memory it needs is
  // there; then recorded; from then on replayed.
  void run(const std::vector<uint64_t>& key, cudaStream_t stream,
           const std::function<void()>& enqueue);

  // Forgets all: memory that they use has moved.
  void clear();

 private:
  std::map<std::vector<uint64_t>, cudaGraphExec_t> graphs_;  // nullptr: seen once
};

}  // namespace narrow::ops::cuda
