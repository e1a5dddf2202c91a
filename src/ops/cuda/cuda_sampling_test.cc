// Tokens that the device draws are those of ops/sampling.h on the host: every one, over rows with
// ties, infinities and NaN, with and without cuts.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ops/cuda_plugin.h"
#include "ops/random_logits.h"
#include "ops/sampling.h"

namespace narrow::ops {
namespace {

TEST(CudaSampling, DrawsTheTokensOfTheHost) {
  const auto cuda = make_cuda_backend(0);
  std::mt19937_64 random(11);
  for (const int64_t vocabulary : {7, 1001, 49152, 128256}) {
    const RandomLogits of(vocabulary, random);
    const DeviceBuffer on_device = cuda->allocate(of.rows() * vocabulary * 4);
    const DeviceBuffer chosen = cuda->allocate(of.rows() * 4);
    cuda->upload(on_device, std::as_bytes(std::span(of.logits)));
    const auto pending = cuda->summarize_logits(
        {on_device.data.get(), DType::f32, of.rows(), vocabulary}, of.queries, chosen);
    const auto got = pending->wait();
    std::vector<int32_t> tokens(of.queries.size());
    cuda->download(std::as_writable_bytes(std::span(tokens)), chosen.data.get());
    for (size_t r = 0; r < tokens.size(); ++r) {
      const int32_t expected = choose(of.row(r), of.queries[r]);
      EXPECT_EQ(got[r].chosen, expected) << "vocabulary " << vocabulary << ", row " << r;
      EXPECT_EQ(tokens[r], expected);
      EXPECT_EQ(got[r].argmax, argmax(of.row(r)));
    }
  }
}

}  // namespace
}  // namespace narrow::ops
