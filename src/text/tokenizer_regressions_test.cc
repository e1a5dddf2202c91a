// Every malformed tokenizer.json that fuzzing found, or that is like one, is refused with an Error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"

namespace narrow::text {
namespace {

TEST(TokenizerJson, RegressionsAreRefused) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::string(NARROW_SOURCE_DIR) + "/fuzz/regressions/tokenizer_json")) {
    EXPECT_THROW(Tokenizer::from_json(read_text(entry.path()), ""), Error) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 6);
}

TEST(TokenizerJson, NoneIsNotCalledDamaged) {
  try {
    Tokenizer::from_json("", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the model has none"));
    EXPECT_EQ(error.kind(), Error::Kind::refused);
  }
}

}  // namespace
}  // namespace narrow::text
