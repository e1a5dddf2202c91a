#include "engine/fit.h"

#include <gtest/gtest.h>

namespace narrow::engine {
namespace {

TEST(Fit, SaysWhatWould) {
  checkpoint::ModelConfig llama;  // Llama-3.1-8B: 6 979 321 856 weights in linear layers
  llama.layers = 32;
  llama.hidden = 4096;
  llama.heads = 32;
  llama.kv_heads = 8;
  llama.head_dim = 128;
  llama.intermediate = 14336;
  llama.vocabulary = 128256;
  EXPECT_EQ(weight_bytes(llama, 16), 2 * 6979321856 + 2 * 2 * 128256 * int64_t{4096});
  const int64_t gib = int64_t{1} << 30;
  EXPECT_EQ(formats_that_fit(llama, 24 * gib), "bf16 (15.0 GiB) would fit");
  EXPECT_EQ(formats_that_fit(llama, 12 * gib), "8-bit formats (8.5 GiB) would fit");
  EXPECT_EQ(formats_that_fit(llama, 6 * gib), "4-bit formats (5.3 GiB) would fit");
  EXPECT_EQ(formats_that_fit(llama, 4 * gib), "no format of this model would fit");
  EXPECT_EQ(context_that_fits(2 << 20, 1 << 30), "--max-context 8192 fits");
  EXPECT_NE(context_that_fits(2 << 20, 1 << 20).find("fewer bits"), std::string::npos);
}

}  // namespace
}  // namespace narrow::engine
