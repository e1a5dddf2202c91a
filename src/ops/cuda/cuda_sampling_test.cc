// Tokens that the device draws are those of ops/sampling.h on the host: every one, over rows with
// ties, infinities and NaN, with and without cuts.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "ops/cuda_plugin.h"
#include "ops/sampling.h"

namespace narrow::ops {
namespace {

std::vector<float> row_of(int kind, int64_t vocabulary, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> row(static_cast<size_t>(vocabulary));
  for (float& logit : row) {
    logit = normal(random);
    if (kind == 1) logit = std::round(logit);         // many equal ones
    if (kind == 2) logit = 0.01f * logit - 3;         // nearly flat
    if (kind == 3) logit = logit > 0 ? 1.0f : -9.0f;  // two values
    if (kind == 4 && logit < 0) logit = -INFINITY;
    if (kind == 5) logit = -0.0f;
  }
  if (kind == 6) row.back() = INFINITY;
  if (kind == 4)
    for (size_t i = 1; i < row.size(); i += 5) row[i] = NAN;
  return row;
}

TEST(CudaSampling, DrawsTheTokensOfTheHost) {
  const auto cuda = make_cuda_backend(0);
  std::mt19937_64 random(11);
  for (const int64_t vocabulary : {7, 1001, 49152, 128256}) {
    std::vector<float> logits;
    std::vector<LogitQuery> queries;
    for (int kind = 0; kind < 7; ++kind)
      for (const double temperature : {0.2, 1.0, 25.0})
        for (int cut = 0; cut < 4; ++cut) {
          const std::vector<float> row = row_of(kind, vocabulary, random);
          logits.insert(logits.end(), row.begin(), row.end());
          const int64_t many = vocabulary / 2 + 1;
          queries.push_back({.temperature = cut == 3 && kind == 0 ? 0 : temperature,
                             .top_k = cut % 2 == 0 ? 0 : (kind % 2 ? 40 : many),
                             .top_p = cut < 2 ? 1.0 : (kind % 2 ? 0.95 : 0.4),
                             .random = kind == 1 && cut == 0 ? ~uint64_t{0} : random()});
        }
    const auto rows = static_cast<int64_t>(queries.size());
    const DeviceBuffer on_device = cuda->allocate(rows * vocabulary * 4);
    const DeviceBuffer chosen = cuda->allocate(rows * 4);
    cuda->upload(on_device, std::as_bytes(std::span(logits)));
    const auto pending = cuda->summarize_logits(
        {on_device.data.get(), DType::f32, rows, vocabulary}, queries, chosen);
    const auto got = pending->wait();
    std::vector<int32_t> tokens(queries.size());
    cuda->download(std::as_writable_bytes(std::span(tokens)), chosen.data.get());
    for (size_t r = 0; r < queries.size(); ++r) {
      const std::span<const float> row(logits.data() + r * static_cast<size_t>(vocabulary),
                                       static_cast<size_t>(vocabulary));
      const int32_t expected = choose(row, queries[r]);
      EXPECT_EQ(got[r].chosen, expected) << "vocabulary " << vocabulary << ", row " << r;
      EXPECT_EQ(tokens[r], expected);
      EXPECT_EQ(got[r].argmax, argmax(row));
    }
  }
}

}  // namespace
}  // namespace narrow::ops
