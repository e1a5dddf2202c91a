#include "checkpoint/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

const fs::path kStories = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k";

void write_all(const Checkpoint& source, const fs::path& to, int64_t shard_bytes, bool backwards) {
  Writer writer(to, {shard_bytes});
  std::vector<std::string> names = source.tensor_names();
  if (backwards) std::reverse(names.begin(), names.end());
  for (const std::string& name : names) writer.add(name, source.read(name));
  writer.add_file("narrow.json", "{}\n");
  writer.finish(source.documents());
}

TEST(Writer, OneShardHoldsTheSameTensorsWhateverTheOrder) {
  TemporaryDirectory directory;
  const auto source = open(kStories);
  write_all(*source, directory.path() / "a", 1 << 30, /*backwards=*/false);
  write_all(*source, directory.path() / "b/", 1 << 30, /*backwards=*/true);
  EXPECT_EQ(sha256_file(directory.path() / "a/model.safetensors"),
            sha256_file(directory.path() / "b/model.safetensors"));
  const auto copy = open(directory.path() / "a");
  EXPECT_EQ(copy->tensor_names(), source->tensor_names());
  for (const std::string& name : source->tensor_names()) {
    const Tensor a = source->read(name), b = copy->read(name);
    EXPECT_TRUE(std::ranges::equal(a.raw(), b.raw())) << name;
  }
  EXPECT_EQ(copy->documents().tokenizer, source->documents().tokenizer);
  EXPECT_FALSE(fs::exists(directory.path() / "a.partial"));
}

TEST(Writer, ManyShardsOpenWithTheirIndex) {
  TemporaryDirectory directory;
  const auto source = open(kStories);
  write_all(*source, directory.path() / "a", 200'000, /*backwards=*/false);
  EXPECT_TRUE(fs::exists(directory.path() / "a/model-00001-of-00006.safetensors"));
  EXPECT_EQ(open(directory.path() / "a")->tensor_names(), source->tensor_names());
}

TEST(Writer, RefusesWhatIsThereAndWhatComesTwice) {
  TemporaryDirectory directory;
  directory.file("taken", "x");
  EXPECT_THAT([&] { Writer writer(directory.path()); },
              ThrowsMessage<Error>(HasSubstr("not an empty directory")));
  EXPECT_THROW(Writer(directory.path() / "taken"), Error);

  const fs::path out = directory.path() / "out";
  const auto source = open(kStories);
  Writer writer(out);
  writer.add("a", source->read("model.norm.weight"));
  EXPECT_THROW(writer.add("a", source->read("model.norm.weight")), Error);
  EXPECT_THROW(writer.add_file("../x", ""), Error);
  EXPECT_THAT([&] { Writer second(out); }, ThrowsMessage<Error>(HasSubstr("another process")));
}

TEST(Writer, LeavesNothingWithoutFinish) {
  TemporaryDirectory directory;
  {
    Writer writer(directory.path() / "out");
    writer.add("a", open(kStories)->read("model.norm.weight"));
  }
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(Writer, WritesADirectoryFromGguf) {
  TemporaryDirectory directory;
  const auto source = open(fs::path(NARROW_SOURCE_DIR) / "tests/goldens/gguf/tiny_qwen2.gguf");
  write_directory(*source, directory.path() / "out");
  const auto copy = open(directory.path() / "out");
  EXPECT_EQ(copy->tensor_names(), source->tensor_names());
  EXPECT_EQ(copy->documents().chat_template, source->documents().chat_template);
  EXPECT_EQ(copy->config().eos_ids, source->config().eos_ids);
}

// A writer in a child process with a fault armed; returns its wait status.
int write_with_fault(const std::string& fault, const fs::path& to) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("NARROW_FAULT", fault.c_str(), 1);
    try {
      write_all(*open(kStories), to, 400'000, /*backwards=*/false);
    } catch (const Error& error) {
      _exit(error.exit_status());
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

// Fails each pass of each point until the write goes through: the directory is absent or whole.
TEST(Writer, EveryFaultLeavesNoDirectoryOrAWholeOne) {
  const size_t tensors = open(kStories)->tensor_names().size();
  for (const std::string point : {"ckpt.write", "ckpt.fsync", "ckpt.rename"}) {
    for (const std::string action : {"kill", "enospc", "eio"}) {
      TemporaryDirectory directory;
      const fs::path out = directory.path() / "out";
      bool finished = false;
      // Steps of 7 through the many writes keep the test short; syncs and renames go one by one.
      for (int pass = 1; !finished; pass += point == "ckpt.write" ? 7 : 1) {
        ASSERT_LT(pass, 1000);
        const int status = write_with_fault(point + ":" + action + ":" + std::to_string(pass), out);
        finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (finished) break;
        EXPECT_EQ(WIFSIGNALED(status), action == "kill");
        if (fs::exists(out)) {
          EXPECT_EQ(open(out)->tensor_names().size(), tensors);
          fs::remove_all(out);
        }
      }
      EXPECT_EQ(open(out)->tensor_names().size(), tensors);
      EXPECT_FALSE(fs::exists(directory.path() / "out.partial"));
    }
  }
}

}  // namespace
}  // namespace narrow::checkpoint
