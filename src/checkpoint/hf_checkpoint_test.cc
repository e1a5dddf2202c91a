#include "checkpoint/hf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

const fs::path kStories = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k";

// stories260K cut into two shards of four tensors' weight each, with an index: the smallest model
// that has everything a sharded one has.
class ShardedModel {
 public:
  ShardedModel() {
    const SafetensorsFile whole{InputFile(kStories / "model.safetensors")};
    const std::string names[] = {"model.norm.weight", "model.layers.0.input_layernorm.weight",
                                 "model.layers.1.input_layernorm.weight",
                                 "model.layers.2.input_layernorm.weight"};
    Json index;
    int64_t total = 0;
    for (size_t s = 0; s < 2; ++s) {
      Json header;
      std::string data;
      for (size_t t = 2 * s; t < 2 * s + 2; ++t) {
        const Tensor tensor = whole.read(names[t]);
        const size_t begin = data.size();
        data.append(reinterpret_cast<const char*>(tensor.data()),
                    static_cast<size_t>(tensor.size_bytes()));
        header[names[t]] = {
            {"dtype", "F32"}, {"shape", tensor.shape()}, {"data_offsets", {begin, data.size()}}};
        index["weight_map"][names[t]] = kShards[s];
        total += tensor.size_bytes();
      }
      shards[s] = safetensors_bytes(header.dump(), data);
      directory.file(kShards[s], shards[s]);
    }
    index["metadata"]["total_size"] = total;
    write_index(index);
    directory.file("config.json", read_text(kStories / "config.json"));
  }

  void write_index(const Json& changed) {
    index = changed;
    directory.file("model.safetensors.index.json", changed.dump());
  }
  const fs::path& path() const { return directory.path(); }

  static constexpr const char* kShards[2] = {"model-00001-of-00002.safetensors",
                                             "model-00002-of-00002.safetensors"};
  TemporaryDirectory directory;
  std::string shards[2];
  Json index;
};

void expect_refused(const ShardedModel& model, const std::string& message) {
  EXPECT_THAT([&] { open(model.path()); }, ThrowsMessage<Error>(HasSubstr(message)));
}

TEST(HuggingFace, OpensOneFileAndShards) {
  const auto single = open(kStories);
  EXPECT_EQ(single->config().parameters(), 260032);
  EXPECT_EQ(single->tensor_names().size(), 47u);
  EXPECT_EQ(single->info("model.norm.weight").dtype, DType::f32);
  EXPECT_EQ(single->format(), "bf16");
  EXPECT_EQ(single->fingerprint().size(), 64u);

  const ShardedModel model;
  const auto sharded = open(model.path());
  EXPECT_EQ(sharded->tensor_names().size(), 4u);
  const Tensor a = sharded->read("model.norm.weight"), b = single->read("model.norm.weight");
  EXPECT_TRUE(std::ranges::equal(a.as<float>(), b.as<float>()));
  EXPECT_THROW(sharded->read("lm_head.weight"), Error);
  EXPECT_THROW(sharded->info("lm_head.weight"), Error);
}

TEST(HuggingFace, FingerprintFollowsTheBytes) {
  ShardedModel model;
  const std::string before = open(model.path())->fingerprint();
  EXPECT_EQ(open(model.path())->fingerprint(), before);
  model.shards[1].back() ^= 1;
  model.directory.file(ShardedModel::kShards[1], model.shards[1]);
  EXPECT_NE(open(model.path())->fingerprint(), before);
}

TEST(HuggingFace, RefusesAShardCutAnywhere) {
  ShardedModel model;
  const std::string& whole = model.shards[1];
  for (size_t size : {size_t{0}, size_t{7}, size_t{8}, size_t{40}, whole.size() - 512,
                      whole.size() - 300, whole.size() - 1}) {
    model.directory.file(ShardedModel::kShards[1], whole.substr(0, size));
    EXPECT_THROW(open(model.path()), Error) << size;
  }
}

TEST(HuggingFace, RefusesMissingExtraAndSwappedShards) {
  {
    const ShardedModel model;
    fs::remove(model.path() / ShardedModel::kShards[1]);
    expect_refused(model, "No such file");
  }
  {
    const ShardedModel model;
    model.directory.file("model-00003-of-00003.safetensors", model.shards[1]);
    expect_refused(model, "does not name");
  }
  {
    const ShardedModel model;
    model.directory.file(ShardedModel::kShards[0], model.shards[1]);
    model.directory.file(ShardedModel::kShards[1], model.shards[0]);
    expect_refused(model, "another shard than the index says");
  }
  {
    const ShardedModel model;
    model.directory.file(ShardedModel::kShards[0], model.shards[1]);
    expect_refused(model, "is in two shards");
  }
  {
    const ShardedModel model;
    model.directory.file("model.safetensors", model.shards[0]);
    expect_refused(model, "both model.safetensors and");
  }
}

TEST(HuggingFace, RefusesAnIndexThatDisagrees) {
  ShardedModel model;
  const Json good = model.index;
  Json bad = good;
  bad["weight_map"]["model.extra.weight"] = ShardedModel::kShards[0];
  model.write_index(bad);
  expect_refused(model, "of the index is missing");
  bad = good;
  bad["weight_map"].erase("model.norm.weight");
  model.write_index(bad);
  expect_refused(model, "not in the index");
  bad = good;
  bad["metadata"]["total_size"] = 7;
  model.write_index(bad);
  expect_refused(model, "total_size");
  bad = good;
  bad.erase("weight_map");
  model.write_index(bad);
  expect_refused(model, "weight_map");
}

// Nothing outside the directory is opened, whatever the index says.
TEST(HuggingFace, OpensNothingOutsideTheDirectory) {
  TemporaryDirectory outside;
  outside.file("evil.safetensors", "x");
  for (const std::string& name : {std::string("../evil.safetensors"), std::string("/etc/passwd"),
                                  std::string("a/../../evil.safetensors"), std::string("x\0y", 3),
                                  std::string(".."), std::string(".")}) {
    ShardedModel model;
    Json index = model.index;
    index["weight_map"]["model.norm.weight"] = name;
    model.write_index(index);
    expect_refused(model, "single name");
  }
  {
    ShardedModel model;
    const fs::path shard = model.path() / ShardedModel::kShards[1];
    fs::remove(shard);
    fs::create_symlink(outside.path() / "evil.safetensors", shard);
    expect_refused(model, "cannot open");
  }
  {
    ShardedModel model;
    const fs::path shard = model.path() / ShardedModel::kShards[1];
    fs::remove(shard);
    ASSERT_EQ(mkfifo(shard.c_str(), 0600), 0);
    expect_refused(model, "not a regular file");
  }
  {
    ShardedModel model;
    const fs::path shard = model.path() / ShardedModel::kShards[1];
    fs::remove(shard);
    fs::create_directory(shard);
    expect_refused(model, "not a regular file");
  }
}

TEST(HuggingFace, FollowsTheLinksOfAHubCacheOnly) {
  TemporaryDirectory cache;
  const fs::path repository = cache.path() / "models--a--b";
  fs::create_directories(repository / "blobs");
  fs::create_directories(repository / "snapshots/abc");
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::copy_file(kStories / name, repository / "blobs" / name);
    fs::create_symlink(fs::path("../../blobs") / name, repository / "snapshots/abc" / name);
  }
  EXPECT_EQ(open(repository / "snapshots/abc")->config().layers, 5);
  fs::remove(repository / "snapshots/abc/model.safetensors");
  fs::create_symlink(kStories / "model.safetensors",
                     repository / "snapshots/abc/model.safetensors");
  EXPECT_THROW(open(repository / "snapshots/abc"), Error);
}

TEST(HuggingFace, RefusesWhatIsNoModel) {
  TemporaryDirectory directory;
  EXPECT_THAT([&] { open(directory.path()); }, ThrowsMessage<Error>(HasSubstr("no config.json")));
  EXPECT_THROW(open(directory.path() / "absent"), Error);
  EXPECT_THROW(open(directory.file("model.bin", "x")), Error);
}

TEST(HuggingFace, ReadsTheTemplateFromEitherPlace) {
  ShardedModel model;
  model.directory.file("tokenizer_config.json",
                       R"({"chat_template":[{"name":"rag","template":"r"},)"
                       R"({"name":"default","template":"d"}]})");
  EXPECT_EQ(open(model.path())->documents().chat_template, "d");
  model.directory.file("chat_template.jinja", "j");
  EXPECT_EQ(open(model.path())->documents().chat_template, "j");
}

}  // namespace
}  // namespace narrow::checkpoint
