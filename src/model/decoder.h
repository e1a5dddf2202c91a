// A whole decoder of the Llama kind (Llama 3.x, SmolLM2, Qwen2/2.5: family differences are data of
// ModelConfig) on a Backend. One forward for calibration, evaluation, similarity and serving. One
// thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/layer.h"

namespace narrow::model {

// KV memory of all layers.
class KvCache {
 public:
  // dtype: of the backend (kv_dtype()) unless given. Throws Error::refused for one it does not run.
  KvCache(const checkpoint::ModelConfig& config, ops::Backend& backend, int64_t blocks,
          std::optional<DType> dtype = {});
  int64_t blocks() const { return blocks_; }
  uint64_t id() const { return id_; }  // never given twice in a process
  const ops::DeviceBuffer& layer(int64_t index) const {
    return layers_.at(static_cast<size_t>(index));
  }
  std::span<const ops::DeviceBuffer> layers() const { return layers_; }
  static int64_t bytes_per_block(const checkpoint::ModelConfig& config, const ops::Backend& backend,
                                 std::optional<DType> dtype = {});

 private:
  int64_t blocks_;
  uint64_t id_;
  std::vector<ops::DeviceBuffer> layers_;
};

class Decoder {
 public:
  // Loads layer by layer, so that host memory holds a few layers, and the embeddings and the head,
  // beside the prepared ones. max_rows bounds a step. usual_logit_rows, at least 1: memory for the
  // logits of so many rows is taken at once; the first step with more waits for the device. Throws
  // Error::refused when a tensor is missing or its shape does not fit.
  Decoder(const checkpoint::Checkpoint& checkpoint, ops::Backend& backend, int64_t max_rows = 512,
          int64_t usual_logit_rows = 16);
  ~Decoder();

  const checkpoint::ModelConfig& config() const;
  ops::Backend& backend() const;
  int64_t max_rows() const;
  int64_t weight_bytes() const;  // read per step at one row

  // Runs one step and returns logits f32 [logit_rows.size(), vocabulary] on the host, valid until
  // the next call. REQUIRES: batch.rows() <= max_rows().
  View<const float> forward(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows);

  // The same without waiting, and with the logits where the backend has them, valid until the next
  // step.
  ops::Matrix enqueue(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows);

  // Enqueues one step and what is asked of its logits, one query of each logit row. Steps run in
  // the order of their start; batch.token_sources name logit rows of the last one started that had
  // any. Throws Error::failed for a source that there is not. REQUIRES: batch.rows() <= max_rows().
  void start(ops::Batch batch, KvCache& kv, std::span<const int32_t> logit_rows,
             std::span<const ops::LogitQuery> queries);
  // Waits for the oldest step that was started and not finished, and for none after it. [logit
  // rows], valid until the next call. REQUIRES: there is one.
  std::span<const ops::LogitSummary> finish();
  // Waits for all steps and forgets their results.
  void abandon();
  // Rows [first, first + count) of the logits of the step started last. Valid until the next call.
  View<const float> logits(int64_t first, int64_t count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::model
