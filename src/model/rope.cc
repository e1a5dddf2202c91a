#include <cmath>
#include <numbers>

#include "model/layer.h"

namespace narrow::model {
namespace {

// Rotations per token of each pair, in float32 as transformers computes them.
std::vector<float> inverse_frequencies(const checkpoint::ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  std::vector<float> frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    frequencies[static_cast<size_t>(i)] =
        1.0f / std::pow(static_cast<float>(config.rope_theta), exponent);
  }
  if (!config.rope_scaling) return frequencies;
  const checkpoint::RopeScaling& scaling = *config.rope_scaling;
  for (float& frequency : frequencies) {
    const double scaled = frequency / scaling.factor;
    switch (scaling.type) {
      case checkpoint::RopeScaling::Type::linear:
        frequency = static_cast<float>(scaled);
        break;
      case checkpoint::RopeScaling::Type::llama3: {
        // Llama 3.1: wavelengths beyond the old context are stretched, short ones kept, those
        // between interpolated.
        const double context = static_cast<double>(scaling.original_context_tokens);
        const double wavelength = 2 * std::numbers::pi / frequency;
        if (wavelength > context / scaling.low_freq_factor) {
          frequency = static_cast<float>(scaled);
        } else if (wavelength >= context / scaling.high_freq_factor) {
          const double smooth = (context / wavelength - scaling.low_freq_factor) /
                                (scaling.high_freq_factor - scaling.low_freq_factor);
          frequency = static_cast<float>((1 - smooth) * scaled + smooth * frequency);
        }
        break;
      }
    }
  }
  return frequencies;
}

}  // namespace

RopeTable make_rope_table(const checkpoint::ModelConfig& config, int64_t positions) {
  const auto frequencies = inverse_frequencies(config);
  const auto half = static_cast<int64_t>(frequencies.size());
  // One long vector each, so that a backend keeps float32.
  RopeTable table{Tensor::unfilled(DType::f32, {positions * half}),
                  Tensor::unfilled(DType::f32, {positions * half})};
  const auto cosine = table.cosine.as<float>(), sine = table.sine.as<float>();
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * frequencies[static_cast<size_t>(i)];
      cosine[static_cast<size_t>(p * half + i)] = std::cos(angle);
      sine[static_cast<size_t>(p * half + i)] = std::sin(angle);
    }
  }
  return table;
}

Rope prepare_rope(const RopeTable& table, ops::Backend& backend) {
  return {backend.prepare(table.cosine), backend.prepare(table.sine)};
}

}  // namespace narrow::model
