#include "quantize/layer_quantizer.h"

#include <algorithm>
#include <cmath>

#include "quantize/gptq.h"
#include "quantize/rounding.h"
#include "quantize/smoothing.h"

namespace narrow::quantize {
namespace {

// The linear whose statistics a linear shares.
std::string input_of(const std::string& name) {
  if (name == "self_attn.k_proj" || name == "self_attn.v_proj") return "self_attn.q_proj";
  if (name == "mlp.up_proj") return "mlp.gate_proj";
  return name;
}

const std::vector<std::string> kAttentionInputs = {"self_attn.q_proj", "self_attn.k_proj",
                                                   "self_attn.v_proj"};
const std::vector<std::string> kMlpInputs = {"mlp.gate_proj", "mlp.up_proj"};

Tensor difference(const Tensor& a, const Tensor& b) {
  Tensor result(DType::f32, a.shape());
  const auto to = result.as<float>();
  const auto x = a.as<float>(), y = b.as<float>();
  for (size_t i = 0; i < to.size(); ++i) to[i] = x[i] - y[i];
  return result;
}

double norm(const Tensor& t) {
  double sum = 0;
  for (float value : t.as<float>()) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

void multiply_into(std::vector<float>& total, const std::vector<float>& s) {
  if (total.empty()) total.assign(s.size(), 1.0f);
  for (size_t i = 0; i < s.size(); ++i) total[i] *= s[i];
}

void divide_columns(Tensor& weight, const std::vector<float>& s, ThreadPool& pool) {
  const auto w = weight.matrix<float>();
  pool.parallel_for(w.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto row = w.row(r);
      for (size_t c = 0; c < s.size(); ++c) row[c] /= s[c];
    }
  });
}

void multiply_rows(Tensor& weight, const std::vector<float>& s) {
  const auto w = weight.matrix<float>();
  for (int64_t r = 0; r < w.rows; ++r)
    for (float& value : w.row(r)) value *= s[static_cast<size_t>(r)];
}

// What a weight scaled by `s` becomes when it is rounded, seen from unscaled inputs.
Tensor rounded_behind(const Tensor& weight, const std::vector<float>& s, const Scheme& scheme,
                      ThreadPool& pool) {
  Tensor rounded = nearest_values(scale_columns(weight, s, pool), scheme, ObserverOptions{}, pool);
  divide_columns(rounded, s, pool);
  return rounded;
}

}  // namespace

void InputStatistics::add(const float* x, int64_t rows, ThreadPool& pool) {
  hessian.add(x, rows, pool);
  if (hessian.rows() == rows) {
    std::copy_n(x, low.size(), low.begin());
    high = low;
  }
  // Each range of channels by a thread of its own.
  pool.parallel_for(hessian.in(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = x + r * hessian.in();
      for (auto c = static_cast<size_t>(begin); c < static_cast<size_t>(end); ++c) {
        low[c] = std::min(low[c], row[c]);
        high[c] = std::max(high[c], row[c]);
        magnitude[c] += std::fabs(row[c]);
      }
    }
  });
}

std::vector<float> InputStatistics::range() const {
  std::vector<float> result(low.size());
  for (size_t c = 0; c < result.size(); ++c) result[c] = high[c] - low[c];
  return result;
}

std::vector<float> InputStatistics::mean_magnitude() const {
  std::vector<float> result(magnitude.size());
  for (size_t c = 0; c < result.size(); ++c)
    result[c] = static_cast<float>(magnitude[c] / static_cast<double>(hessian.rows()));
  return result;
}

Scheme LayerQuantizer::scheme_for(int64_t in, std::string& note) const {
  Scheme scheme = scheme_of_format(recipe_.format, recipe_.group_size);
  if (scheme.weights->strategy != QuantArgs::Strategy::group) return scheme;
  for (int64_t size : {recipe_.group_size, int64_t{64}, int64_t{32}}) {
    if (size <= recipe_.group_size && in % size == 0) {
      if (size != recipe_.group_size) {
        note = "groups of " + std::to_string(size) + ": " + std::to_string(recipe_.group_size) +
               " does not divide " + std::to_string(in);
      }
      scheme.weights->group_size = size;
      return scheme;
    }
  }
  note = "left unquantized: no group size of " + std::to_string(recipe_.group_size) +
         ", 64, 32 divides " + std::to_string(in);
  return {};
}

void LayerQuantizer::smooth(model::LayerWeights& weights, Statistics& statistics) {
  const auto apply = [&](const std::vector<std::string>& names, Tensor& norm_weight) {
    InputStatistics& seen = statistics.at(names[0]);
    std::vector<const Tensor*> layers;
    for (const std::string& name : names) layers.push_back(&dense_.at(name));
    const auto s = smoothquant_scales(seen.range(), layers, *recipe_.smoothing);
    for (const std::string& name : names) {
      dense_.at(name) = scale_columns(dense_.at(name), s, pool_);
      multiply_into(column_scale_[name], s);
    }
    norm_weight = divide_rows(norm_weight.to(DType::f32), s).to(norm_weight.dtype());
    seen.hessian.divide_inputs(s, pool_);
  };
  apply(kAttentionInputs, weights.input_norm);
  apply(kMlpInputs, weights.post_attention_norm);
}

void LayerQuantizer::search(model::LayerWeights& weights, Statistics& statistics,
                            const HalfError& half_error) {
  // Groups of linears with one input, and what the scaling is divided out of.
  const auto best_of = [&](const std::vector<std::string>& names, auto error_of) {
    std::vector<const Tensor*> layers;
    for (const std::string& name : names) layers.push_back(&dense_.at(name));
    std::string note;
    const Scheme scheme = scheme_for(layers[0]->dim(1), note);
    if (scheme.dense()) return std::vector<float>();
    const auto candidates = awq_candidates(statistics.at(input_of(names[0])).mean_magnitude(),
                                           layers, scheme.weights->group_size);
    const std::vector<float>* best = nullptr;
    double lowest = INFINITY;
    for (const auto& s : candidates) {
      std::map<std::string, Tensor> rounded;
      for (const std::string& name : names)
        rounded.emplace(name, rounded_behind(dense_.at(name), s, scheme, pool_));
      const double error = error_of(rounded);
      if (error < lowest) {
        lowest = error;
        best = &s;
      }
    }
    return best ? *best : std::vector<float>();
  };
  const auto apply = [&](const std::vector<std::string>& names, const std::vector<float>& s) {
    for (const std::string& name : names) {
      dense_.at(name) = scale_columns(dense_.at(name), s, pool_);
      multiply_into(column_scale_[name], s);
    }
    statistics.at(input_of(names[0])).hessian.divide_inputs(s, pool_);
  };
  const auto behind_norm = [&](const std::vector<std::string>& names, const std::string& half,
                               Tensor& norm_weight) {
    const auto s = best_of(names, [&](const auto& rounded) { return half_error(half, rounded); });
    if (s.empty()) return;
    apply(names, s);
    norm_weight = divide_rows(norm_weight.to(DType::f32), s).to(norm_weight.dtype());
  };
  // A linear behind another one: its own output is the parent's, and the Hessian gives its error
  // over all calibration tokens.
  const auto behind_linear = [&](const std::string& name, const std::string& before) {
    const auto s = best_of({name}, [&](const auto& rounded) {
      return output_error(difference(dense_.at(name), rounded.at(name)),
                          statistics.at(name).hessian, pool_);
    });
    if (s.empty()) return;
    apply({name}, s);
    dense_.at(before) = divide_rows(dense_.at(before), s);
    multiply_into(row_scale_[before], s);
  };
  behind_norm(kAttentionInputs, "self_attn", weights.input_norm);
  // With grouped queries v has fewer outputs than o has inputs: no scaling fits between them. A
  // bias of v would have to be divided as well.
  if (dense_.at("self_attn.v_proj").dim(0) == dense_.at("self_attn.o_proj").dim(1) &&
      weights.linears.at("self_attn.v_proj").bias.empty())
    behind_linear("self_attn.o_proj", "self_attn.v_proj");
  behind_norm(kMlpInputs, "mlp", weights.post_attention_norm);
  behind_linear("mlp.down_proj", "mlp.up_proj");
}

void LayerQuantizer::quantize(model::LayerWeights& weights, Statistics& statistics,
                              const HalfError& half_error, Report& report) {
  std::map<std::string, Tensor> original;
  for (const auto& [name, linear] : weights.linears)
    original.emplace(name, linear.weight.to(DType::bf16).to(DType::f32));
  for (const auto& [name, weight] : original) dense_.emplace(name, weight);
  if (recipe_.smoothing) smooth(weights, statistics);
  if (recipe_.method == Recipe::Method::awq) search(weights, statistics, half_error);
  for (const char* name : model::kLinearNames) {
    PackedLinear& linear = weights.linears.at(name);
    ModuleReport module;
    module.module = prefix_ + name;
    const Tensor& weight = dense_.at(name);
    const Scheme scheme = scheme_for(linear.in, module.note);
    const Tensor bias = linear.bias;
    if (scheme.dense()) {
      linear.weight = weight.to(DType::bf16);
      report.modules.push_back(std::move(module));
      continue;
    }
    if (scheme.weights->strategy == QuantArgs::Strategy::group)
      module.group_size = scheme.weights->group_size;
    const ObserverOptions observer{recipe_.max_shrink};
    if (recipe_.method == Recipe::Method::gptq) {
      GptqResult result = gptq(weight, statistics.at(input_of(name)).hessian, scheme,
                               {recipe_.damping, recipe_.activation_order, observer}, pool_);
      if (result.fell_back)
        module.note += std::string(module.note.empty() ? "" : "; ") +
                       "rounded without feedback: the Hessian is not positive definite";
      linear = std::move(result.linear);
      if (scheme.weights->strategy == QuantArgs::Strategy::group && recipe_.activation_order)
        linear.scheme.weights->actorder = QuantArgs::ActOrder::weight;
    } else {
      linear = round_to_nearest(weight, scheme, observer, pool_);
    }
    linear.bias = bias;

    Tensor error = difference(weight, dequantize(linear));
    if (const auto found = statistics.find(input_of(name)); found != statistics.end()) {
      const double power = output_error(weight, found->second.hessian, pool_);
      module.output_error =
          power > 0
              ? std::sqrt(std::max(0.0, output_error(error, found->second.hessian, pool_) / power))
              : 0;
    }
    // Seen from the original weight: scalings undone.
    if (const auto& scale = column_scale_[name]; !scale.empty())
      divide_columns(error, scale, pool_);
    if (const auto& scale = row_scale_[name]; !scale.empty()) multiply_rows(error, scale);
    module.relative_error = norm(error) / norm(original.at(name));
    report.add(std::move(module));
  }
}

}  // namespace narrow::quantize
