// RULER's samples of 32k, 64k and 128k tokens, with the essays that scripts/fetch_data.py brings,
// against NVIDIA/RULER's own scripts (tests/goldens/ruler/README.md).
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/temporary_directory.h"
#include "evaluate/ruler.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/ruler";
constexpr int kEnglishWords = 30000;  // as make.py makes them up

TEST(RulerLong, SamplesEqualTheOriginals) {
  const TemporaryDirectory temporary;
  const fs::path& data = temporary.path();
  for (const char* name : {"squad.json", "hotpotqa.json"})
    write_text(data / name, read_text_maybe_gz(kGolden / (std::string(name) + ".gz")));
  write_text(data / "PaulGrahamEssays.json",
             read_text(NARROW_DATA_DIR "/eval/ruler/PaulGrahamEssays.json"));
  Json words = Json::object();
  for (int i = 0; i < kEnglishWords; ++i) words[std::to_string(i)] = "word" + std::to_string(i);
  write_text(data / "english_words.json", words.dump());

  std::set<std::string> tasks;
  std::set<int64_t> lengths;
  const Json golden = parse_json(read_text_maybe_gz(kGolden / "long.json.gz"), "long.json");
  for (const Json& run : golden) {
    const auto task = run["task"].get<std::string>();
    SCOPED_TRACE(task + " " + run["length"].dump());
    RulerOptions options;
    options.length = run["length"].get<int64_t>();
    options.samples = static_cast<int64_t>(run["samples"].size());
    options.data = data;
    const auto samples = make_ruler(task, options, [](const std::string& text) {
      return static_cast<int64_t>(text.size() + 3) / 4;
    });
    ASSERT_EQ(samples.size(), run["samples"].size());
    for (size_t i = 0; i < samples.size(); ++i) {
      const Json& expected = run["samples"][i];
      EXPECT_EQ(samples[i].outputs, expected["outputs"].get<std::vector<std::string>>());
      EXPECT_EQ(samples[i].answer_prefix, expected["answer_prefix"].get<std::string>());
      EXPECT_EQ(samples[i].length_tokens, expected["length"].get<int64_t>());
      EXPECT_EQ(sha256_hex(samples[i].input), expected["input_sha256"].get<std::string>());
    }
    tasks.insert(task);
    lengths.insert(options.length);
  }
  EXPECT_EQ(tasks.size(), 13u);
  EXPECT_EQ(lengths, (std::set<int64_t>{32768, 65536, 131072}));
}

}  // namespace
}  // namespace narrow::evaluate
