#include "model/layer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "model/kv_scales.h"

namespace narrow::model {
namespace {

using checkpoint::ModelConfig;

Tensor read_norm(const checkpoint::Checkpoint& checkpoint, const std::string& name,
                 int64_t hidden) {
  Tensor norm = checkpoint.read(name);
  if (norm.elements() != hidden) {
    throw Error::refused("has shape " + to_string(norm.shape()) + ", the model is " +
                             std::to_string(hidden) + " wide",
                         checkpoint.path().string() + ", " + name);
  }
  return norm;
}

int64_t qkv_columns(const ModelConfig& config) {
  return (config.heads + 2 * config.kv_heads) * config.head_dim;
}

}  // namespace

LayerWeights read_layer(const checkpoint::Checkpoint& checkpoint, int64_t index) {
  const ModelConfig& config = checkpoint.config();
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const std::array<std::array<int64_t, 2>, 7> shapes = {{{q, config.hidden},
                                                         {kv, config.hidden},
                                                         {kv, config.hidden},
                                                         {config.hidden, q},
                                                         {config.intermediate, config.hidden},
                                                         {config.intermediate, config.hidden},
                                                         {config.hidden, config.intermediate}}};
  LayerWeights weights;
  weights.input_norm = read_norm(checkpoint, prefix + "input_layernorm.weight", config.hidden);
  weights.post_attention_norm =
      read_norm(checkpoint, prefix + "post_attention_layernorm.weight", config.hidden);
  for (size_t i = 0; i < shapes.size(); ++i) {
    PackedLinear linear = checkpoint.read_linear(prefix + kLinearNames[i]);
    if (linear.out != shapes[i][0] || linear.in != shapes[i][1]) {
      throw Error::refused("has shape [" + std::to_string(linear.out) + ", " +
                               std::to_string(linear.in) + "], config.json asks for [" +
                               std::to_string(shapes[i][0]) + ", " + std::to_string(shapes[i][1]) +
                               "]",
                           checkpoint.path().string() + ", " + prefix + kLinearNames[i]);
    }
    weights.linears.emplace(kLinearNames[i], std::move(linear));
  }
  fold_kv_exponents(read_kv_exponents(checkpoint, prefix + "self_attn."), weights.linears);
  return weights;
}

Workspace::Workspace(const ModelConfig& config, ops::Backend& backend, int64_t rows)
    : config_(config), dtype_(backend.activation_dtype()), rows_(rows) {
  const auto allocate = [&](int64_t cols) {
    return backend.allocate(rows * cols * size_of(dtype_));
  };
  normed_ = allocate(config.hidden);
  qkv_ = allocate(qkv_columns(config));
  attended_ = allocate(config.heads * config.head_dim);
  gate_up_ = allocate(std::max(2 * config.intermediate, qkv_columns(config)));
  activated_ = allocate(config.intermediate);
  block_out_ = allocate(config.hidden);
}

ops::Matrix Workspace::part(const ops::DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
  if (rows > rows_) throw Error::failed("a step of more rows than the workspace holds");
  return {buffer.data.get(), dtype_, rows, cols};
}

ops::Matrix Workspace::normed(int64_t rows) { return part(normed_, rows, config_.hidden); }
ops::Matrix Workspace::qkv(int64_t rows) { return part(qkv_, rows, qkv_columns(config_)); }
ops::Matrix Workspace::some_qkv(int64_t rows) { return part(gate_up_, rows, qkv_columns(config_)); }
ops::Matrix Workspace::attended(int64_t rows) {
  return part(attended_, rows, config_.heads * config_.head_dim);
}
ops::Matrix Workspace::gate_up(int64_t rows) {
  return part(gate_up_, rows, 2 * config_.intermediate);
}
ops::Matrix Workspace::activated(int64_t rows) {
  return part(activated_, rows, config_.intermediate);
}
ops::Matrix Workspace::block_out(int64_t rows) { return part(block_out_, rows, config_.hidden); }

Layer::Layer(const ModelConfig& config, const LayerWeights& weights, ops::Backend& backend)
    : config_(config),
      backend_(backend),
      shape_{config.heads, config.kv_heads, config.head_dim,
             static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)))},
      input_norm_(backend.prepare(weights.input_norm)),
      post_attention_norm_(backend.prepare(weights.post_attention_norm)) {
  const auto prepare = [&](std::initializer_list<const char*> names) {
    std::vector<PackedLinear> parts;
    for (const char* name : names) parts.push_back(weights.linears.at(name));
    return backend.prepare(parts);
  };
  qkv_ = prepare({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
  o_ = prepare({"self_attn.o_proj"});
  gate_up_ = prepare({"mlp.gate_proj", "mlp.up_proj"});
  down_ = prepare({"mlp.down_proj"});
}

void Layer::attention(const ops::Plan& plan, const Rope& rope, ops::Matrix normed,
                      const ops::DeviceBuffer& kv, Workspace& workspace, ops::Matrix out,
                      LinearObserver* observer) const {
  if (observer) observer->on_input("self_attn.q_proj", normed);
  const ops::Matrix qkv = workspace.qkv(normed.rows), attended = workspace.attended(normed.rows);
  backend_.linear(*qkv_, normed, qkv);
  backend_.rope_and_store(plan, shape_, rope.cosine, rope.sine, qkv, kv);
  backend_.attention(plan, shape_, qkv, kv, attended);
  if (observer) observer->on_input("self_attn.o_proj", attended);
  backend_.linear(*o_, attended, out);
}

void Layer::mlp(ops::Matrix normed, Workspace& workspace, ops::Matrix out,
                LinearObserver* observer) const {
  const ops::Matrix gate_up = workspace.gate_up(normed.rows);
  const ops::Matrix activated = workspace.activated(normed.rows);
  if (observer) observer->on_input("mlp.gate_proj", normed);
  backend_.linear(*gate_up_, normed, gate_up);
  backend_.silu_mul(gate_up, activated);
  if (observer) observer->on_input("mlp.down_proj", activated);
  backend_.linear(*down_, activated, out);
}

void Layer::forward(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
                    const ops::DeviceBuffer& kv, Workspace& workspace,
                    LinearObserver* observer) const {
  if (!observer) {
    project_and_store(plan, rope, hidden, kv, workspace);
    attend_and_mlp(plan, workspace.qkv(hidden.rows), hidden, kv, workspace);
    return;
  }
  const auto epsilon = static_cast<float>(config_.rms_norm_epsilon);
  const ops::Matrix normed = workspace.normed(hidden.rows);
  const ops::Matrix out = workspace.block_out(hidden.rows);
  backend_.rms_norm(hidden, input_norm_, epsilon, normed);
  attention(plan, rope, normed, kv, workspace, out, observer);
  backend_.add(hidden, out);
  backend_.rms_norm(hidden, post_attention_norm_, epsilon, normed);
  mlp(normed, workspace, out, observer);
  backend_.add(hidden, out);
}

void Layer::forward_rows(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
                         const ops::DeviceBuffer& kv, Workspace& workspace,
                         std::span<const int32_t> rows, const ops::Plan* rows_plan,
                         ops::Matrix rows_hidden) const {
  project_and_store(plan, rope, hidden, kv, workspace);
  if (rows.empty()) return;
  const ops::Matrix rows_qkv = workspace.some_qkv(rows_hidden.rows);
  backend_.gather_rows(hidden, rows, rows_hidden);
  backend_.gather_rows(workspace.qkv(hidden.rows), rows, rows_qkv);
  attend_and_mlp(*rows_plan, rows_qkv, rows_hidden, kv, workspace);
}

void Layer::project_and_store(const ops::Plan& plan, const Rope& rope, ops::Matrix hidden,
                              const ops::DeviceBuffer& kv, Workspace& workspace) const {
  const ops::Matrix qkv = workspace.qkv(hidden.rows);
  backend_.norm_linear(hidden, input_norm_, static_cast<float>(config_.rms_norm_epsilon),
                       workspace.normed(hidden.rows), *qkv_, qkv);
  backend_.rope_and_store(plan, shape_, rope.cosine, rope.sine, qkv, kv);
}

void Layer::attend_and_mlp(const ops::Plan& plan, ops::Matrix qkv, ops::Matrix hidden,
                           const ops::DeviceBuffer& kv, Workspace& workspace) const {
  const int64_t rows = hidden.rows;
  const ops::Matrix attended = workspace.attended(rows), out = workspace.block_out(rows);
  backend_.attention(plan, shape_, qkv, kv, attended);
  backend_.linear_add(*o_, attended, out, hidden);
  const ops::Mlp mlp{
      *gate_up_, *down_, workspace.normed(rows), workspace.gate_up(rows), workspace.activated(rows),
      out};
  backend_.norm_mlp_add(hidden, post_attention_norm_, static_cast<float>(config_.rms_norm_epsilon),
                        mlp);
}

ops::LayerParts Layer::parts() const {
  return {qkv_.get(), o_.get(), gate_up_.get(), down_.get(), &input_norm_, &post_attention_norm_};
}

int64_t Layer::weight_bytes() const {
  return qkv_->weight_bytes() + o_->weight_bytes() + gate_up_->weight_bytes() +
         down_->weight_bytes();
}

}  // namespace narrow::model
