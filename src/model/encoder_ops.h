// The operations of a BERT-type encoder that a decoder does not have, in float32 on the host. Rows
// (heads, for attention) are divided among the threads of `pool`; a row's result depends on neither
// their number nor the other rows, but for attention, where it depends on its own sequence.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "tensor/view.h"

namespace narrow::model {

// x = (x + residual - mean) / sqrt(variance + epsilon) · gamma + beta over each row, the variance
// with divisor n (Ba, Kiros and Hinton 2016). residual: as x, or empty (data null) for none.
void add_layer_norm(View<float> x, View<const float> residual, std::span<const float> gamma,
                    std::span<const float> beta, double epsilon, ThreadPool& pool);

// x = x Φ(x) = x (1 + erf(x / √2)) / 2, the exact GELU (Hendrycks and Gimpel 2016).
void gelu(View<float> x, ThreadPool& pool);

// out = softmax(q kᵀ / √d) v per head, every token seeing all of one sequence.
// qkv: [tokens, 3 · heads · d], q of all heads first, then k, then v. out: [tokens, heads · d]
void attend_both_ways(View<const float> qkv, int64_t heads, View<float> out, ThreadPool& pool);

}  // namespace narrow::model
