#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/temporary_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Files : public testing::Test {
 protected:
  const TemporaryDirectory temporary_;
  const fs::path directory_ = temporary_.path();
};

TEST_F(Files, OutputAppearsWholeOrNotAtAll) {
  const fs::path path = directory_ / "out";
  {
    OutputFile file(path);
    file.write("half");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(fs::is_empty(directory_));
  OutputFile file(path);
  file.write("whole");
  EXPECT_EQ(file.written_bytes(), 5);
  file.commit();
  EXPECT_EQ(read_text(path), "whole");
  EXPECT_FALSE(fs::exists(directory_ / "out.partial"));
}

TEST_F(Files, ReadsAtOffsetsAndNamesTheEnd) {
  write_text(directory_ / "in", "abcdef");
  const InputFile file(directory_ / "in");
  std::string text(3, ' ');
  file.read(2, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(text, "cde");
  EXPECT_THAT([&] { file.read(4, std::as_writable_bytes(std::span(text))); },
              ThrowsMessage<Error>(HasSubstr("ends at byte 6, 1 bytes too early")));
  EXPECT_THROW(read_text(directory_ / "in", 5), Error);
}

// A file cut by another process while it is read is an Error, not a signal.
TEST_F(Files, TruncationDuringReadingIsAnError) {
  const std::string content(1 << 16, 'x');
  std::string text(content.size(), ' ');
  int refused = 0;
  for (int round = 0; round < 100; ++round) {
    write_text(directory_ / "in", content);
    const InputFile file(directory_ / "in");
    const pid_t child = fork();
    if (child == 0) _exit(truncate((directory_ / "in").c_str(), 100) == 0 ? 0 : 1);
    try {
      file.read(0, std::as_writable_bytes(std::span(text)));
    } catch (const Error&) {
      ++refused;
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
    EXPECT_THROW(file.read(0, std::as_writable_bytes(std::span(text))), Error);
  }
  RecordProperty("refused", refused);
}

TEST_F(Files, RefusesWhatIsNoRegularFile) {
  EXPECT_THROW(InputFile{directory_}, Error);
  EXPECT_THROW(InputFile{directory_ / "absent"}, Error);
  EXPECT_THROW(InputFile{"/dev/zero"}, Error);
  ASSERT_EQ(mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_THROW(InputFile{directory_ / "fifo"}, Error);
}

TEST_F(Files, BeneathStaysBeneath) {
  fs::create_directories(directory_ / "root/inner");
  fs::create_directories(directory_ / "root/blobs");
  write_text(directory_ / "root/blobs/b", "b");
  write_text(directory_ / "secret", "s");
  const fs::path inner = directory_ / "root/inner";
  fs::create_symlink("../blobs/b", inner / "link");
  fs::create_symlink("../../secret", inner / "out");
  fs::create_symlink(directory_ / "secret", inner / "absolute");
  EXPECT_THROW(InputFile::beneath(inner, "link"), Error);
  EXPECT_EQ(InputFile::beneath(inner, "link", directory_ / "root").size_bytes(), 1);
  EXPECT_THROW(InputFile::beneath(inner, "out", directory_ / "root"), Error);
  EXPECT_THROW(InputFile::beneath(inner, "absolute", directory_ / "root"), Error);
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"),
        std::string("/etc/passwd"), std::string("a\0b", 3)})
    EXPECT_THROW(InputFile::beneath(inner, name), Error) << name;
}

TEST_F(Files, Sha256OfKnownText) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_text(directory_ / "abc", "abc");
  EXPECT_EQ(sha256_file(directory_ / "abc"), sha256_hex("abc"));
  Sha256 hash;
  hash.add("a");
  hash.add("bc");
  EXPECT_EQ(hash.hex(), sha256_hex("abc"));
}

TEST(Checked, OverflowIsAnError) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(checked_add(kMax - 1, 1, "x"), kMax);
  EXPECT_THROW(checked_add(kMax, 1, "x"), Error);
  EXPECT_THROW(checked_mul(int64_t{1} << 32, int64_t{1} << 31, "x"), Error);
  EXPECT_THROW(checked_from_u64(uint64_t{1} << 63, "x"), Error);
  const int64_t negative[] = {2, -1}, wraps[] = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_THROW(checked_elements(negative, "x"), Error);
  EXPECT_THROW(checked_elements(wraps, "x"), Error);
  EXPECT_EQ(checked_elements({}, "x"), 1);
}

TEST(ErrorKinds, ExitStatus) {
  EXPECT_EQ(Error::refused("a").exit_status(), 2);
  EXPECT_EQ(Error::failed("a").exit_status(), 1);
  EXPECT_EQ(Error(Error::Kind::interrupted, "a").exit_status(), 130);
  EXPECT_STREQ(Error::refused("what", "where", "advice").what(), "where: what (advice)");
}

}  // namespace
}  // namespace narrow
