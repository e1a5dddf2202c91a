// model.safetensors.index.json of arbitrary bytes, beside one true shard: opened or refused, and
// nothing outside the directory is touched.
#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "checkpoint/checkpoint.h"

namespace {

namespace fs = std::filesystem;

bool make_model(const fs::path& directory) {
  const fs::path stories = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k";
  fs::copy_file(stories / "config.json", directory / "config.json");
  const std::string header = R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})";
  const uint64_t length = header.size();
  std::ofstream shard(directory / "a.safetensors", std::ios::binary);
  shard.write(reinterpret_cast<const char*>(&length), sizeof(length));
  shard << header << 'x';
  return static_cast<bool>(shard);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const narrow::TemporaryDirectory temporary;
  const fs::path& directory = temporary.path();
  static const bool made = make_model(directory);
  if (!made) std::abort();
  std::ofstream(directory / "model.safetensors.index.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto model = narrow::checkpoint::open(directory);
    if (model->tensor_names() != std::vector<std::string>{"t"}) std::abort();
  } catch (const narrow::Error&) {
  }
  return 0;
}
