// What of a model would fit into a device's memory: for the messages that say so. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/model_config.h"

namespace narrow::engine {

// Bytes of a model's weights on a device when each weight of a linear layer takes `bits`;
// embeddings and head are bf16, one of each even where they are tied.
int64_t weight_bytes(const checkpoint::ModelConfig& config, double bits);

// "8-bit formats (8.0 GiB) would fit": the widest formats narrow makes whose weights fit into
// free_bytes, or that none does.
std::string formats_that_fit(const checkpoint::ModelConfig& config, int64_t free_bytes);

// "--max-context 4096 fits": tokens of whole KV blocks of block_bytes that fit, or that the weights
// leave no room.
std::string context_that_fits(int64_t block_bytes, int64_t free_bytes);

}  // namespace narrow::engine
