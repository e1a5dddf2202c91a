#include "ops/check.h"

#include <fmt/format.h>

#include "base/error.h"
#include "ops/sampling.h"

namespace narrow::ops {
namespace {

void require(bool holds, const char* operation, const std::string& what) {
  if (!holds) throw Error::failed(what, operation);
}

bool known_weights(const QuantArgs& args) {
  if (args.strategy == QuantArgs::Strategy::token) return false;
  if (args.type == QuantArgs::Type::floating) return args.bits == 8 && args.symmetric;
  return args.bits >= 2 && args.bits <= 8;
}

bool known_inputs(const Scheme& scheme) {
  if (!scheme.inputs) return true;
  const QuantArgs& inputs = *scheme.inputs;
  return scheme.weights && inputs.bits == 8 && inputs.symmetric && inputs.dynamic &&
         inputs.strategy == QuantArgs::Strategy::token && scheme.weights->bits == 8 &&
         scheme.weights->type == inputs.type && scheme.weights->symmetric &&
         scheme.weights->strategy != QuantArgs::Strategy::group;
}

}  // namespace

void check_linear(const Linear& layer, Matrix x, Matrix y) {
  require(x.cols == layer.in() && y.cols == layer.out() && x.rows == y.rows, "linear",
          fmt::format("[{}, {}] into a layer of {} inputs and {} outputs, result [{}, {}]", x.rows,
                      x.cols, layer.in(), layer.out(), y.rows, y.cols));
}

void check_same_shape(Matrix a, Matrix b, const char* operation) {
  require(a.rows == b.rows && a.cols == b.cols, operation,
          fmt::format("shapes [{}, {}] and [{}, {}] differ", a.rows, a.cols, b.rows, b.cols));
}

void check_rms_norm(Matrix x, const DeviceBuffer& gamma, Matrix y) {
  check_same_shape(x, y, "rms_norm");
  require(gamma.size_bytes == x.cols * size_of(DType::f32), "rms_norm",
          "gamma does not have one number per column");
}

void check_silu_mul(Matrix gate_up, Matrix y) {
  require(gate_up.rows == y.rows && gate_up.cols == 2 * y.cols, "silu_mul",
          "gate_up must be twice as wide as the result");
}

void check_embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
                 Matrix out) {
  require(out.rows == plan.batch().rows(), "embed", "one row per token is needed");
  const int64_t row_bytes = out.cols * size_of(table.dtype);
  const int64_t vocabulary = row_bytes > 0 ? table.size_bytes / row_bytes : 0;
  const int64_t choices = chosen.size_bytes / size_of(DType::i32);
  const Batch& batch = plan.batch();
  for (size_t r = 0; r < batch.tokens.size(); ++r) {
    const int32_t token = batch.tokens[r];
    const int32_t source = batch.token_sources.empty() ? -1 : batch.token_sources[r];
    if (source >= choices || source < -1)
      throw Error::failed(fmt::format("no token was chosen at row {} of logits", source), "embed");
    if (source < 0 && (token < 0 || token >= vocabulary))
      throw Error::failed(
          fmt::format("token {} is outside the vocabulary of {}", token, vocabulary), "embed");
  }
}

void check_summarize(Matrix logits, std::span<const LogitQuery> queries,
                     const DeviceBuffer& chosen) {
  require(logits.dtype == DType::f32, "summarize_logits", "logits are not f32");
  require(logits.rows == static_cast<int64_t>(queries.size()), "summarize_logits",
          "one query per row is needed");
  require(logits.rows * size_of(DType::i32) <= chosen.size_bytes, "summarize_logits",
          "there is no room for the chosen tokens");
  for (const LogitQuery& query : queries) {
    if (query.temperature > 0 && logits.cols > kMostSampled)
      throw Error::failed(fmt::format("cannot draw from a vocabulary of {}", logits.cols),
                          "summarize_logits");
    require(query.best_count >= 0 && query.best_count <= kMostBest, "summarize_logits",
            fmt::format("{} best tokens are asked for", query.best_count));
    if (query.target < -1 || query.target >= logits.cols)
      throw Error::failed(
          fmt::format("token {} is outside the vocabulary of {}", query.target, logits.cols),
          "summarize_logits");
  }
}

void check_compare(Matrix p, Matrix q, std::span<const int32_t> targets) {
  require(p.dtype == DType::f32 && q.dtype == DType::f32, "compare_logits", "logits are not f32");
  require(p.rows == q.rows && p.cols == q.cols, "compare_logits", "logits differ in shape");
  require(p.rows == static_cast<int64_t>(targets.size()), "compare_logits",
          "one target per row is needed");
  for (const int32_t target : targets)
    require(target >= 0 && target < p.cols, "compare_logits",
            fmt::format("token {} is outside the vocabulary of {}", target, p.cols));
}

void check_attention(const Plan& plan, const AttentionShape& shape, Matrix qkv,
                     const DeviceBuffer& kv_layer, int64_t kv_element_bytes) {
  const Batch& batch = plan.batch();
  require(
      qkv.rows == batch.rows() && qkv.cols == (shape.heads + 2 * shape.kv_heads) * shape.head_dim,
      "attention", "qkv does not have the shape of the step");
  const int64_t block_bytes =
      2 * shape.kv_heads * kKvBlockTokens * shape.head_dim * kv_element_bytes;
  const int64_t blocks = kv_layer.size_bytes / block_bytes;
  require(plan.highest_block() < blocks, "attention",
          fmt::format("KV block {} of {} does not exist", plan.highest_block(), blocks));
}

void check_gather(Matrix x, std::span<const int32_t> rows, Matrix out) {
  require(out.rows == static_cast<int64_t>(rows.size()) && out.cols == x.cols, "gather_rows",
          "the result does not have the shape of the request");
  for (int32_t row : rows)
    if (row < 0 || row >= x.rows) throw Error::failed(fmt::format("no row {}", row), "gather_rows");
}

void check_parts(std::span<const PackedLinear> parts) {
  if (parts.empty()) throw Error::refused("no layer to prepare");
  for (const PackedLinear& part : parts) {
    if (part.in != parts.front().in)
      throw Error::refused("layers that are to share an input have different widths");
    if (part.scheme.inputs != parts.front().scheme.inputs)
      throw Error::refused("layers that share an input must quantize it alike");
    if ((part.scheme.weights && !known_weights(*part.scheme.weights)) ||
        !known_inputs(part.scheme)) {
      throw Error::refused(
          "this quantization scheme cannot be run", {},
          "run here: unquantized; int 2-8 bit or fp8 weights by tensor, channel or group; with "
          "8-bit dynamic per-token inputs of the weights' type, or unquantized inputs");
    }
    const bool biased = !part.bias.empty();
    if (biased && part.bias.elements() != part.out)
      throw Error::refused("a bias does not have one number per output");
  }
}

InputKind input_kind(const Scheme& scheme) {
  if (!scheme.inputs) return InputKind::plain;
  return scheme.inputs->type == QuantArgs::Type::integer ? InputKind::int8_per_token
                                                         : InputKind::fp8_per_token;
}

}  // namespace narrow::ops
