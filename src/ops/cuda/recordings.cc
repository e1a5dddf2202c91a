#include "ops/cuda/recordings.h"

#include "ops/cuda/error.h"

namespace narrow::ops::cuda {
namespace {

// Shapes of a long-running server are few; a bound keeps a strange one from filling memory.
constexpr size_t kMost = 256;

}  // namespace

void Recordings::run(const std::vector<uint64_t>& key, cudaStream_t stream,
                     const std::function<void()>& enqueue) {
  const auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMost) clear();
    enqueue();
    graphs_[key] = nullptr;
    return;
  }
  if (!found->second) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step");
    cudaGraph_t graph = nullptr;
    try {
      enqueue();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "recording a step");
    const cudaError_t status = cudaGraphInstantiate(&found->second, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "recording a step");
  }
  check(cudaGraphLaunch(found->second, stream), "replaying a step");
}

void Recordings::clear() {
  for (auto& [key, graph] : graphs_)
    if (graph) cudaGraphExecDestroy(graph);
  graphs_.clear();
}

}  // namespace narrow::ops::cuda
