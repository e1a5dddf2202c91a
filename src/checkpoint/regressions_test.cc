// Malformed files in the shape of published parser bugs, and every input that fuzzing ever found.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

void expect_all_refused(const std::string& target,
                        const std::function<void(const fs::path&)>& load) {
  int files = 0;
  for (const auto& entry :
       fs::directory_iterator(fs::path(NARROW_SOURCE_DIR) / "fuzz/regressions" / target)) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THROW(load(entry.path()), Error) << entry.path();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1)) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(Regressions, Safetensors) {
  expect_all_refused("safetensors", [](const fs::path& path) { SafetensorsFile{InputFile(path)}; });
}

TEST(Regressions, Gguf) {
  expect_all_refused("gguf", [](const fs::path& path) { open_gguf(path); });
}

TEST(Regressions, ConfigJson) {
  expect_all_refused("config_json", [](const fs::path& path) {
    const Json config = read_json(path);
    parse_model_config(config, path.string());
    QuantizationConfig(config, path.string());
  });
}

TEST(Regressions, IndexJson) {
  TemporaryDirectory directory;
  const fs::path stories = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k";
  directory.file("config.json", read_text(stories / "config.json"));
  directory.file(
      "a.safetensors",
      safetensors_bytes(R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x"));
  expect_all_refused("index_json", [&](const fs::path& path) {
    directory.file("model.safetensors.index.json", read_text(path));
    open(directory.path());
  });
}

}  // namespace
}  // namespace narrow::checkpoint
