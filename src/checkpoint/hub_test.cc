#include "checkpoint/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

const fs::path kSource = NARROW_SOURCE_DIR;
const fs::path kStories = kSource / "tests/goldens/stories260k";

// hub_test_server.py in a child process, with a cache folder of its own.
class Hub : public testing::Test {
 protected:
  void SetUp() override {
    int out[2];
    ASSERT_EQ(pipe(out), 0);
    log_ = directory_.path() / "log";
    child_ = fork();
    if (child_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      close(out[0]);
      const std::string script = kSource / "src/checkpoint/hub_test_server.py";
      execlp("python3", "python3", script.c_str(), kStories.c_str(), log_.c_str(), nullptr);
      _exit(127);
    }
    close(out[1]);
    std::string port;
    for (char c; read(out[0], &c, 1) == 1 && c != '\n';) port += c;
    close(out[0]);
    ASSERT_FALSE(port.empty()) << "the server needs python3";
    setenv("HF_ENDPOINT", ("http://127.0.0.1:" + port).c_str(), 1);
    setenv("HF_HOME", (directory_.path() / "hf").c_str(), 1);
    setenv("HF_TOKEN", "secret", 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HUB_OFFLINE");
  }
  void TearDown() override {
    kill(child_, SIGTERM);
    waitpid(child_, nullptr, 0);
  }
  std::string log() const { return read_text(log_); }

  TemporaryDirectory directory_;
  fs::path log_;
  pid_t child_ = -1;
};

TEST_F(Hub, DownloadsResumesVerifiesAndCaches) {
  const fs::path folder = snapshot("org/tiny");
  EXPECT_EQ(folder, directory_.path() / "hf/hub/models--org--tiny/snapshots" /
                        "0123456789abcdef0123456789abcdef01234567");
  EXPECT_EQ(open(folder)->config().layers, 5);
  EXPECT_EQ(sha256_file(folder / "model.safetensors"), sha256_file(kStories / "model.safetensors"));
  EXPECT_TRUE(fs::is_symlink(folder / "config.json"));
  EXPECT_FALSE(fs::exists(folder / "modeling.py"));
  EXPECT_THAT(read_text(folder / "1_Pooling/config.json"), HasSubstr("mean_tokens"));
  // The connection broke half-way through the weights; the rest came by a range.
  EXPECT_THAT(log(), HasSubstr("/cdn/tiny/model.safetensors bytes="));
  EXPECT_THAT(log(), HasSubstr("Bearer secret"));

  const std::string before = log();
  EXPECT_EQ(snapshot("org/tiny"), folder);
  EXPECT_THAT(log().substr(before.size()), Not(HasSubstr("/cdn/")));

  setenv("HF_HUB_OFFLINE", "1", 1);
  const std::string online = log();
  EXPECT_EQ(resolve_model("org/tiny"), folder);
  EXPECT_EQ(log(), online);
  EXPECT_THAT([] { snapshot("org/other"); }, ThrowsMessage<Error>(HasSubstr("not in the cache")));
}

TEST_F(Hub, ContinuesAnIncompleteFileOfAnEarlierRun) {
  const fs::path blobs = directory_.path() / "hf/hub/models--org--tiny/blobs";
  fs::create_directories(blobs);
  const std::string whole = read_text(kStories / "model.safetensors");
  write_text(blobs / (sha256_file(kStories / "model.safetensors") + ".incomplete"),
             whole.substr(0, 1000));
  snapshot("org/tiny");
  EXPECT_THAT(log(), HasSubstr("/cdn/tiny/model.safetensors bytes=1000-"));
}

TEST_F(Hub, RefusesContentWithAnotherHash) {
  EXPECT_THAT([] { snapshot("org/broken"); },
              ThrowsMessage<Error>(HasSubstr("does not have the hash")));
  EXPECT_FALSE(fs::exists(directory_.path() / "hf/hub/models--org--broken/refs"));
}

TEST_F(Hub, NamesMissingAndPrivateModels) {
  EXPECT_THAT([] { snapshot("org/absent"); }, ThrowsMessage<Error>(HasSubstr("no such model")));
  EXPECT_THAT([] { snapshot("org/private"); }, ThrowsMessage<Error>(HasSubstr("HF_TOKEN")));
}

TEST_F(Hub, PullsIntoADirectory) {
  const fs::path out = directory_.path() / "out";
  pull("org/tiny@main", out);
  EXPECT_FALSE(fs::is_symlink(out / "model.safetensors"));
  EXPECT_EQ(open(out)->config().layers, 5);
  EXPECT_FALSE(fs::is_symlink(out / "1_Pooling/config.json"));
  EXPECT_THAT(read_text(out / "1_Pooling/config.json"), HasSubstr("mean_tokens"));
  EXPECT_THAT([&] { pull("org/tiny", out); }, ThrowsMessage<Error>(HasSubstr("not an empty")));
}

TEST(HubName, IsNoPath) {
  EXPECT_TRUE(looks_like_hub_name("org/name"));
  EXPECT_TRUE(looks_like_hub_name("org/name.v1@refs/pr/1"));
  for (const char* text : {"name", "/org/name", "./org/name", "../org", "org/../x", "a/b/c",
                           "org/name.gguf", "org/na me", "org/", "org/name@", "org/name@../x"})
    EXPECT_FALSE(looks_like_hub_name(text)) << text;
  EXPECT_EQ(resolve_model("/some/path"), "/some/path");
}

}  // namespace
}  // namespace narrow::checkpoint
