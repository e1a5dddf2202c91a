// A BERT or RoBERTa encoder (Devlin et al. 2019, Liu et al. 2019): hidden states of a text's tokens
// in float32. Matrix products run on a backend whose memory is the host's ("cpu" or "reference"),
// the rest in encoder_ops.h. A text's states depend on that text alone: one is computed at a time,
// without padding. Not to be shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "checkpoint/encoder_checkpoint.h"
#include "ops/backend.h"
#include "tensor/tensor.h"

namespace narrow::model {

class Encoder {
 public:
  // Copies the weights; the checkpoint may go. threads: 0 = all. Throws Error::refused for tensors
  // that are missing or do not fit config.json, and for a backend that computes in another type.
  Encoder(const checkpoint::EncoderCheckpoint& checkpoint, std::unique_ptr<ops::Backend> backend,
          int threads = 0);
  Encoder(Encoder&&) noexcept;
  ~Encoder();

  const checkpoint::EncoderConfig& config() const;

  // The states after `layer` layers (0: the embeddings): f32 [tokens, hidden]. Every id is of token
  // type 0. Throws Error::refused for ids outside the vocabulary, none, or more than
  // config().longest_input().
  Tensor forward(std::span<const int32_t> ids, int64_t layer);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::model
