#include "similarity/sts.h"

#include <cmath>

namespace narrow::similarity {

std::vector<float> sentence_embedding(TextEncoder& encoder, std::string_view text) {
  const auto ids = encoder.encode(text, encoder.checkpoint().sentence_tokens());
  const Tensor states = encoder.model().forward(ids, encoder.model().config().layers);
  const auto rows = states.matrix<float>();
  std::vector<double> sum(static_cast<size_t>(rows.cols), 0.0);
  for (int64_t t = 0; t < rows.rows; ++t) {
    const auto row = rows.row(t);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
  }
  double squares = 0;
  for (double value : sum) squares += value * value;
  const double length = std::sqrt(squares);
  std::vector<float> embedding(sum.size(), 0.0f);
  if (length > 0)
    for (size_t i = 0; i < sum.size(); ++i) embedding[i] = static_cast<float>(sum[i] / length);
  return embedding;
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace narrow::similarity
