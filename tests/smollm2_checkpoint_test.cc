// The fetched GGUF file becomes, byte for byte, the safetensors file that the peers' goldens were
// computed from (gguf 0.19 `dequantize`, rounded to bf16, saved by the safetensors package).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/hash.h"
#include "base/temporary_directory.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/writer.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

TEST(SmolLM2, GgufBecomesThePeersSafetensors) {
  const fs::path model = fs::path(NARROW_DATA_DIR) / "models/SmolLM2-135M-Instruct.gguf";
  ASSERT_TRUE(fs::exists(model)) << model << " is missing: run scripts/fetch_model.py";
  const TemporaryDirectory temporary;
  const fs::path& directory = temporary.path();
  const auto source = open(model);
  EXPECT_EQ(source->config().parameters(), 134515008);
  write_directory(*source, directory / "hf");
  EXPECT_EQ(sha256_file(directory / "hf/model.safetensors"),
            "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b");
  const auto copy = open(directory / "hf");
  EXPECT_EQ(copy->config().eos_ids, source->config().eos_ids);
  EXPECT_EQ(copy->documents().tokenizer, source->documents().tokenizer);
}

}  // namespace
}  // namespace narrow::checkpoint
