#include "ops/backend.h"

#include <algorithm>

#include "base/error.h"
#include "ops/cpu/cpu_backend.h"
#include "ops/cuda_plugin.h"
#include "ops/reference/reference_backend.h"

namespace narrow::ops {

Plan::Plan(Batch batch) : batch_(std::move(batch)) {
  if (batch_.positions.size() != batch_.tokens.size())
    throw Error::failed("a batch needs one position per token");
  if (!batch_.token_sources.empty() && batch_.token_sources.size() != batch_.tokens.size())
    throw Error::failed("a batch names the source of some tokens only");
  for (const Batch::Sequence& sequence : batch_.sequences) {
    if (sequence.first_row < 0 || sequence.first_row + sequence.rows > batch_.rows() ||
        sequence.rows > sequence.context)
      throw Error::failed("a sequence's rows are outside the step");
    if (static_cast<int64_t>(sequence.blocks.size()) * kKvBlockTokens < sequence.context)
      throw Error::failed("a sequence has fewer KV blocks than its context needs");
    for (const int32_t block : sequence.blocks) {
      if (block < 0) throw Error::failed("a sequence has a KV block below zero");
      highest_block_ = std::max(highest_block_, block);
    }
  }
}

void Backend::linear_add(const Linear& layer, Matrix x, Matrix y, Matrix residual) {
  linear(layer, x, y);
  add(residual, y);
}

void Backend::norm_linear(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix normed,
                          const Linear& layer, Matrix y) {
  rms_norm(x, gamma, epsilon, normed);
  linear(layer, normed, y);
}

void Backend::norm_mlp_add(Matrix residual, const DeviceBuffer& gamma, float epsilon,
                           const Mlp& mlp) {
  norm_linear(residual, gamma, epsilon, mlp.normed, mlp.gate_up, mlp.gates);
  silu_mul(mlp.gates, mlp.activated);
  linear_add(mlp.down, mlp.activated, mlp.out, residual);
}

void Backend::run_decoder(const PreparedDecoder&, const Plan&, const DeviceBuffer&,
                          const DeviceBuffer&, std::span<const DeviceBuffer>, Matrix, Matrix) {
  throw Error::failed("this backend takes a decoder operation by operation");
}

void Backend::run(const Plan&, std::span<const uint64_t>, const std::function<void()>& enqueue) {
  enqueue();
}

std::unique_ptr<Backend> make_backend(std::string_view name, int threads) {
  if (name == "reference") return make_reference_backend();
  if (name == "cpu") return make_cpu_backend(threads);
  if (name == "cuda") return make_cuda_backend(threads);
  if (name == "auto") {
    if (auto cuda = try_cuda_backend(threads)) return cuda;
    return make_cpu_backend(threads);
  }
  throw Error::refused("unknown backend \"" + std::string(name) + "\"", {},
                       "there are: auto, cpu, cuda, reference");
}

}  // namespace narrow::ops
