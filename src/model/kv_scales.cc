#include "model/kv_scales.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/error.h"

namespace narrow::model {
namespace {

constexpr int kMostExponent = 24;      // either way: weights stay far from bf16's ends
constexpr int64_t kMostScales = 4096;  // heads

// The exponent of the first tensor of these that is there.
int read_exponent(const checkpoint::Checkpoint& checkpoint,
                  std::initializer_list<std::string> names) {
  const auto name = std::find_if(names.begin(), names.end(), [&](const std::string& candidate) {
    return checkpoint.contains(candidate);
  });
  if (name == names.end()) return 0;
  const std::string where = checkpoint.path().string() + ", " + *name;
  const checkpoint::TensorInfo info = checkpoint.info(*name);
  int64_t elements = 1;
  for (const int64_t size : info.shape)
    elements = std::min(elements * std::min(size, kMostScales + 1), kMostScales + 1);
  if (elements < 1 || elements > kMostScales)
    throw Error::refused("has shape " + to_string(info.shape), where,
                         "a scale of keys or values is one number, or one per head");
  const Tensor scales = checkpoint.read(*name).to(DType::f32);
  float largest = 0;
  for (const float scale : scales.as<float>()) {
    if (!std::isfinite(scale) || scale <= 0)
      throw Error::refused("holds " + std::to_string(scale), where, "a scale is above zero");
    largest = std::max(largest, scale);
  }
  int exponent = 0;  // largest = fraction · 2^exponent
  if (std::frexp(largest, &exponent) == 0.5f) --exponent;
  if (std::abs(exponent) > kMostExponent)
    throw Error::refused("holds " + std::to_string(largest), where,
                         "a scale of keys or values lies between 2^-24 and 2^24");
  return exponent;
}

// A floating tensor times 2^exponent, or as it is; f16, whose range is small, becomes f32.
Tensor times(const Tensor& tensor, int exponent) {
  if (tensor.empty()) return tensor;
  const float factor = std::ldexp(1.0f, exponent);
  if (tensor.dtype() == DType::bf16) {
    Tensor result = tensor.clone();
    for (bf16& value : result.as<bf16>()) value = to_bf16(to_float(value) * factor);
    return result;
  }
  Tensor result = tensor.dtype() == DType::f32 ? tensor.clone() : tensor.to(DType::f32);
  for (float& value : result.as<float>()) value *= factor;
  return result;
}

void scale_weights(PackedLinear& linear, int exponent) {
  Tensor& factors = linear.scheme.dense() ? linear.weight : linear.scale;
  factors = times(factors, exponent);
}

void scale_outputs(PackedLinear& linear, int exponent) {
  if (exponent == 0) return;
  scale_weights(linear, exponent);
  linear.bias = times(linear.bias, exponent);
}

}  // namespace

KvExponents read_kv_exponents(const checkpoint::Checkpoint& checkpoint,
                              const std::string& attention) {
  if (!checkpoint.kv_scales_are_fp8()) return {};
  return {read_exponent(checkpoint, {attention + "k_scale", attention + "k_proj.output_scale"}),
          read_exponent(checkpoint, {attention + "v_scale", attention + "v_proj.output_scale"})};
}

void fold_kv_exponents(const KvExponents& exponents, std::map<std::string, PackedLinear>& linears) {
  scale_outputs(linears.at("self_attn.q_proj"), exponents.keys);
  scale_outputs(linears.at("self_attn.k_proj"), -exponents.keys);
  scale_outputs(linears.at("self_attn.v_proj"), -exponents.values);
  if (exponents.values == 0) return;
  // Its inputs are smaller, its outputs what they were.
  PackedLinear& output = linears.at("self_attn.o_proj");
  scale_weights(output, exponents.values);
  output.input_scale = times(output.input_scale, -exponents.values);
}

}  // namespace narrow::model
