// Quantizes the seven linears of one decoder block, given what the calibration put into them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/layer.h"
#include "quantize/hessian.h"
#include "quantize/pipeline.h"

namespace narrow::quantize {

// What one linear (or group of linears with one input) saw.
struct InputStatistics {
  explicit InputStatistics(int64_t in)
      : hessian(in),
        low(static_cast<size_t>(in), 0.0f),
        high(static_cast<size_t>(in), 0.0f),
        magnitude(static_cast<size_t>(in), 0.0) {}

  void add(const float* x, int64_t rows, ThreadPool& pool);
  std::vector<float> range() const;           // max - min per channel
  std::vector<float> mean_magnitude() const;  // mean |x| per channel

  Hessian hessian;
  std::vector<float> low, high;
  std::vector<double> magnitude;
};

// By the first linear of the group: "self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj",
// "mlp.down_proj".
using Statistics = std::map<std::string, InputStatistics>;

// Squared error that replacing these linears' weights (f32) causes in the output of the block half
// they belong to: "self_attn" or "mlp".
using HalfError =
    std::function<double(const std::string& half, const std::map<std::string, Tensor>& weights)>;

// Replaces norms and linears of `weights` by their quantized form.
class LayerQuantizer {
 public:
  LayerQuantizer(const Recipe& recipe, const std::string& prefix, ThreadPool& pool)
      : recipe_(recipe), prefix_(prefix), pool_(pool) {}

  // statistics: empty for recipes without calibration. half_error: only called for AWQ.
  void quantize(model::LayerWeights& weights, Statistics& statistics, const HalfError& half_error,
                Report& report);

 private:
  void smooth(model::LayerWeights& weights, Statistics& statistics);
  void search(model::LayerWeights& weights, Statistics& statistics, const HalfError& half_error);
  Scheme scheme_for(int64_t in, std::string& note) const;

  const Recipe& recipe_;
  const std::string prefix_;
  ThreadPool& pool_;
  std::map<std::string, Tensor> dense_;                     // f32 weights as they change
  std::map<std::string, std::vector<float>> column_scale_;  // product of scalings per linear
  std::map<std::string, std::vector<float>> row_scale_;
};

}  // namespace narrow::quantize
