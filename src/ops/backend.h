// The operations a decoder is made of, on one device. `reference` is naive and single-threaded, the
// oracle for the others; `cpu` is vectorised and multi-threaded; `cuda` is a plug-in.
//
// Contract of every operation: the result of a row depends on that row (and, for attention, its
// own sequence) alone, never on the other rows of the batch or how many there are. Orders of
// accumulation are fixed by the layer's shape. That is what makes a request's tokens and
// log-probabilities bitwise the same alone and in any batch (docs/formats.md).
//
// Operations enqueue on the backend's stream; synchronize() waits. Plan on the host, then run
// without allocation. One thread at a time per Backend.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/batch.h"
#include "ops/logits.h"
#include "ops/matrix.h"
#include "tensor/packed_linear.h"
#include "tensor/tensor.h"

namespace narrow::ops {

// Memory of a backend, freed on destruction. Zeroed when allocated.
struct DeviceBuffer {
  std::shared_ptr<void> data;
  int64_t size_bytes = 0;
  DType dtype = DType::f32;  // of what prepare(tensor) put there
};

// One or several linear layers over the same input, laid out for the hardware.
class Linear {
 public:
  virtual ~Linear() = default;
  virtual int64_t in() const = 0;
  virtual int64_t out() const = 0;           // sum over the parts
  virtual int64_t weight_bytes() const = 0;  // read per forward at one row
};

// A step prepared for the device: tokens, positions, block tables.
class Plan {
 public:
  // Throws Error::failed when a sequence's rows lie outside the step, its blocks are too few or the
  // batch has not one position (or source) per token.
  explicit Plan(Batch batch);
  virtual ~Plan() = default;
  const Batch& batch() const { return batch_; }
  int32_t highest_block() const { return highest_block_; }  // of all sequences; -1: none

 private:
  Batch batch_;
  int32_t highest_block_ = -1;
};

// Summaries of logits on their way to the host. Not to outlive the backend; of its thread.
class PendingSummaries {
 public:
  virtual ~PendingSummaries() = default;
  // Waits until they are there, and for nothing that was enqueued later. [rows], valid as long as
  // this object.
  virtual std::span<const LogitSummary> wait() = 0;
};

// What an engine asks of a device unless it is told otherwise.
struct EngineDefaults {
  int64_t sequences = 64;               // running at once
  int64_t step_tokens = 512;            // rows of a step
  int64_t kv_bytes = int64_t{1} << 30;  // of the KV cache, at most
  bool plan_ahead = false;              // whether the device computes while the host plans
};

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;  // 1 / sqrt(head_dim)
};

// A gated perceptron and where its intermediate results go.
struct Mlp {
  const Linear& gate_up;  // 2 n outputs, gate first
  const Linear& down;     // n inputs
  Matrix normed;          // [rows, inputs of gate_up]
  Matrix gates;           // [rows, 2 n]
  Matrix activated;       // [rows, n]
  Matrix out;             // [rows, outputs of down]
};

// One decoder layer, as prepare() made its parts.
struct LayerParts {
  const Linear *qkv = nullptr, *o = nullptr, *gate_up = nullptr, *down = nullptr;
  const DeviceBuffer *input_norm = nullptr, *post_attention_norm = nullptr;
};

// A decoder behind its embedding. What it names must outlive what is prepared of it.
struct DecoderParts {
  std::vector<LayerParts> layers;
  AttentionShape shape;
  float epsilon = 0;
  const DeviceBuffer* final_norm = nullptr;
  const Linear* head = nullptr;
};

// The same, prepared to be run in one go.
class PreparedDecoder {
 public:
  virtual ~PreparedDecoder() = default;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "reference", "cpu", "cuda"
  virtual std::string describe() const = 0;   // "cpu: AVX2, 2 threads"
  // What a reader of results must know of how a format runs here, by the format's name.
  virtual std::map<std::string, std::string> format_notes() const { return {}; }
  virtual DType activation_dtype() const = 0;
  virtual DType kv_dtype() const = 0;  // of the KV cache: f32 on reference, bf16 on cpu
  // Whether a cache may hold `dtype`: its buffers' dtype then says so. Numbers are rounded, to the
  // largest finite one if need be, when they are stored.
  virtual bool runs_kv(DType dtype) const { return dtype == kv_dtype(); }

  virtual DeviceBuffer allocate(int64_t bytes) = 0;
  virtual void upload(const DeviceBuffer& to, std::span<const std::byte> from) = 0;
  virtual void download(std::span<std::byte> to, const void* from) = 0;
  // The first `bytes` bytes at `from`, after all that was enqueued, where the host can read them:
  // in place when memory is the host's. Valid until the next call.
  virtual std::span<const std::byte> read_back(const void* from, int64_t bytes) = 0;
  // Enqueues the summary of each row of `logits` (f32) and does not wait for it. queries: [rows].
  // The token chosen of row r is written to chosen[r] as well, for the next step
  // (Batch::token_sources). chosen: i32 [>= rows].
  virtual std::unique_ptr<PendingSummaries> summarize_logits(Matrix logits,
                                                             std::span<const LogitQuery> queries,
                                                             const DeviceBuffer& chosen) = 0;
  // How far each row of q lies from the same one of p, logits f32 [rows, vocabulary] both. Waits
  // for the result. targets: [rows], the tokens that came.
  virtual std::vector<LogitDivergence> compare_logits(Matrix p, Matrix q,
                                                      std::span<const int32_t> targets) = 0;
  virtual void synchronize() = 0;
  virtual int64_t free_bytes() const = 0;  // memory that allocate() could still get
  // For what is free now.
  virtual EngineDefaults engine_defaults() const { return {}; }

  // Lays out `parts`, which share the input, as one layer whose outputs stand side by side.
  // Throws Error::refused for a scheme the backend does not run, saying which it does.
  virtual std::unique_ptr<Linear> prepare(std::span<const PackedLinear> parts) = 0;
  // Floating-point weights: vectors (norms, rope) widened to f32, matrices (embeddings) kept, or
  // f16 widened to f32.
  virtual DeviceBuffer prepare(const Tensor& tensor) = 0;

  virtual std::unique_ptr<Plan> plan(Batch batch) = 0;

  // y = x Wᵀ + bias, activations quantized first where the scheme says so.
  // x: [rows, in]  y: [rows, out]
  virtual void linear(const Linear& layer, Matrix x, Matrix y) = 0;

  // out[r] = table[tokens[r]], the token from `chosen` (as summarize_logits left it) where the plan
  // says so; without such rows `chosen` may be empty.  table: bf16 or f32 [vocabulary, hidden]
  virtual void embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
                     Matrix out) = 0;

  // y = x / sqrt(mean(x²) + epsilon) · gamma, per row.  gamma: f32 [cols]
  virtual void rms_norm(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix y) = 0;

  // residual += x.
  virtual void add(Matrix residual, Matrix x) = 0;

  // y = linear(x), then residual += y; a device may leave nothing in y. The default composes.
  // x: [rows, in]  y, residual: [rows, out]
  virtual void linear_add(const Linear& layer, Matrix x, Matrix y, Matrix residual);

  // y = silu(gate) · up.  gate_up: [rows, 2 * cols of y], gate first
  virtual void silu_mul(Matrix gate_up, Matrix y) = 0;

  // normed = rms_norm(x), then y = linear(normed): together, so that a device can quantize while it
  // normalizes; it may leave nothing in `normed`. The default composes.
  virtual void norm_linear(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix normed,
                           const Linear& layer, Matrix y);

  // normed = rms_norm(residual), gates = gate_up(normed), activated = silu_mul(gates), out =
  // down(activated), residual += out; a device may leave nothing in what lies between. The default
  // composes.
  virtual void norm_mlp_add(Matrix residual, const DeviceBuffer& gamma, float epsilon,
                            const Mlp& mlp);

  // Rotates q and k of qkv [rows, (heads + 2 kv_heads) * head_dim] in place (half-split pairs, as
  // Hugging Face Llama) at the plan's positions and writes k and v into the layer's cache.
  // cosine, sine: f32 [positions, head_dim / 2]
  virtual void rope_and_store(const Plan& plan, const AttentionShape& shape,
                              const DeviceBuffer& cosine, const DeviceBuffer& sine, Matrix qkv,
                              const DeviceBuffer& kv_layer) = 0;

  // Causal attention of each row's queries over its sequence's cache.
  // qkv as above (q rotated)  out: [rows, heads * head_dim]
  virtual void attention(const Plan& plan, const AttentionShape& shape, Matrix qkv,
                         const DeviceBuffer& kv_layer, Matrix out) = 0;

  // For run_decoder(); null where the device takes such layers operation by operation alone. Not to
  // outlive the backend.
  virtual std::unique_ptr<PreparedDecoder> prepare_decoder(const DecoderParts& /*parts*/) {
    return nullptr;
  }
  // Whether run_decoder() takes this step.
  virtual bool runs_decoder(const Plan& /*plan*/) const { return false; }
  // From embeddings to logits, with the bits that the operations above give one by one. embedded:
  // [rows, hidden]  logits: f32 [rows, vocabulary]  kv: of each layer
  // REQUIRES: runs_decoder(plan).
  virtual void run_decoder(const PreparedDecoder& decoder, const Plan& plan,
                           const DeviceBuffer& cosine, const DeviceBuffer& sine,
                           std::span<const DeviceBuffer> kv, Matrix embedded, Matrix logits);

  // Runs `enqueue`, which enqueues the operations of `plan`'s step. A device may record what was
  // enqueued and replay the record for later plans of the same shape, without a call of `enqueue`:
  // it must depend on nothing else than that shape and what `identity` names (never used again for
  // other memory).
  virtual void run(const Plan& plan, std::span<const uint64_t> identity,
                   const std::function<void()>& enqueue);

  // out[i] = x[rows[i]].
  virtual void gather_rows(Matrix x, std::span<const int32_t> rows, Matrix out) = 0;
};

// "auto" (cuda where it runs, else cpu), "cpu", "reference", "cuda". threads: 0 = all. Throws
// Error::refused for a name that is unknown or absent on this machine, saying why.
std::unique_ptr<Backend> make_backend(std::string_view name, int threads = 0);

}  // namespace narrow::ops
