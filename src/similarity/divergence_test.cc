#include "similarity/divergence.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/test_files.h"

namespace narrow::similarity {
namespace {

TEST(ReadCharacters, AsPythonsTextMode) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "text";
  write_text(file, "a\r\n\r\rä東\r\nb\n\r");
  EXPECT_EQ(read_characters(file.string()), "a\n\n\nä東\nb\n\n");
  EXPECT_EQ(read_characters(file.string(), 6), "a\n\n\nä東");
  EXPECT_EQ(read_characters(file.string(), 1000), "a\n\n\nä東\nb\n\n");
}

}  // namespace
}  // namespace narrow::similarity
