// One decoder block, written once over Backend. The quantizer is this code plus observers: it
// builds a Layer from weights it has changed, runs it, and watches the inputs of its linears.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "ops/backend.h"

namespace narrow::model {

// Names of the linears of a block, in the order of the checkpoint schema.
inline constexpr const char* kLinearNames[] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

// A block as the checkpoint stores it, in host memory, with scales of keys and values in its
// projections (kv_scales.h).
struct LayerWeights {
  Tensor input_norm;                            // "input_layernorm.weight" [hidden]
  Tensor post_attention_norm;                   // "post_attention_layernorm.weight" [hidden]
  std::map<std::string, PackedLinear> linears;  // keys: kLinearNames
};

LayerWeights read_layer(const checkpoint::Checkpoint& checkpoint, int64_t index);

// Sees the input of every linear as it is computed. Matrices are in backend memory, valid during
// the call only.
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  // name: one of kLinearNames; q, k, v (and gate, up) are reported once, as the first of the group.
  virtual void on_input(const std::string& name, ops::Matrix x) = 0;
};

// Scratch memory for up to `rows` rows of one model, shared by its layers.
class Workspace {
 public:
  Workspace(const checkpoint::ModelConfig& config, ops::Backend& backend, int64_t rows);
  int64_t rows() const { return rows_; }
  ops::Matrix normed(int64_t rows);     // [rows, hidden]
  ops::Matrix qkv(int64_t rows);        // [rows, (heads + 2 kv_heads) * head_dim]
  ops::Matrix attended(int64_t rows);   // [rows, heads * head_dim]
  ops::Matrix some_qkv(int64_t rows);   // of some rows of a step, until gate_up() is written
  ops::Matrix gate_up(int64_t rows);    // [rows, 2 * intermediate]
  ops::Matrix activated(int64_t rows);  // [rows, intermediate]
  ops::Matrix block_out(int64_t rows);  // [rows, hidden]

 private:
  ops::Matrix part(const ops::DeviceBuffer& buffer, int64_t rows, int64_t cols) const;
  checkpoint::ModelConfig config_;
  DType dtype_;
  int64_t rows_;
  ops::DeviceBuffer normed_, qkv_, attended_, gate_up_, activated_, block_out_;
};

// cos and sin of the rotary embedding for positions [0, positions): f32 [positions * head_dim / 2]
// each. Made by one thread: a table of 131072 positions takes it one or two tenths of a second.
struct RopeTable {
  Tensor cosine, sine;
};
RopeTable make_rope_table(const checkpoint::ModelConfig& config, int64_t positions);

// The same in backend memory.
struct Rope {
  ops::DeviceBuffer cosine, sine;
};
Rope prepare_rope(const RopeTable& table, ops::Backend& backend);

class Layer {
 public:
  Layer(const checkpoint::ModelConfig& config, const LayerWeights& weights, ops::Backend& backend);

  // hidden: [rows, hidden], in and out. kv: this layer's cache.
  void forward(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
               const ops::DeviceBuffer& kv, Workspace& workspace,
               LinearObserver* observer = nullptr) const;

  // The same when only `rows` of the step are asked for: keys and values are stored of all, and
  // what comes behind that is computed for those rows alone. rows_plan: of rows_of(the step, rows),
  // not looked at without rows.  rows_hidden: [rows.size(), hidden], out
  void forward_rows(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
                    const ops::DeviceBuffer& kv, Workspace& workspace,
                    std::span<const int32_t> rows, const ops::Plan* rows_plan,
                    ops::Matrix rows_hidden) const;

  // The two halves, without norm and residual, for methods that compare a block's output:
  // out = o_proj(attention(normed)) and out = down_proj(silu(gate) · up). [rows, hidden] both.
  void attention(const ops::Plan& plan, const Rope& rope, ops::Matrix normed,
                 const ops::DeviceBuffer& kv, Workspace& workspace, ops::Matrix out,
                 LinearObserver* observer = nullptr) const;
  void mlp(ops::Matrix normed, Workspace& workspace, ops::Matrix out,
           LinearObserver* observer = nullptr) const;

  int64_t weight_bytes() const;
  const ops::AttentionShape& shape() const { return shape_; }
  ops::LayerParts parts() const;  // of this layer, as long as it lives

 private:
  // Queries, keys and values in the workspace, the latter two in the cache as well.
  void project_and_store(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
                         const ops::DeviceBuffer& kv, Workspace& workspace) const;
  // From them to the layer's result, in hidden.
  void attend_and_mlp(const ops::Plan& plan, ops::Matrix qkv, ops::Matrix hidden,
                      const ops::DeviceBuffer& kv, Workspace& workspace) const;

  const checkpoint::ModelConfig config_;
  ops::Backend& backend_;
  ops::AttentionShape shape_;
  ops::DeviceBuffer input_norm_, post_attention_norm_;
  std::unique_ptr<ops::Linear> qkv_, o_, gate_up_, down_;
};

}  // namespace narrow::model
