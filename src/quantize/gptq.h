// GPTQ (Frantar et al., arXiv 2210.17323): rounds the weight of one linear layer column by column
// and pushes the error of each column onto those still to come, so that || X Wᵀ - X Qᵀ ||² over the
// calibration inputs X stays small. Knows nothing of models or files. Pure.
#pragma once

#include "base/thread_pool.h"
#include "quantize/hessian.h"
#include "quantize/observer.h"
#include "tensor/packed_linear.h"

namespace narrow::quantize {

struct GptqOptions {
  double damping = 0.01;    // share of the mean diagonal added to it
  bool by_activity = true;  // busiest columns first, groups as they stand ("static" act-order)
  ObserverOptions observer;
};

struct GptqResult {
  PackedLinear linear;
  // The Hessian could not be factored even after damping (as a rule: fewer calibration rows than
  // inputs): the layer was rounded without feedback.
  bool fell_back = false;
};

// weight: f32 [out, in] holding bf16 values.
GptqResult gptq(const Tensor& weight, const Hessian& hessian, const Scheme& scheme,
                const GptqOptions& options, ThreadPool& pool);

}  // namespace narrow::quantize
