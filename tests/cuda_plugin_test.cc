// A libnarrow_cuda.so of other headers lies beside this program (other_plugin/plugin.cc): nothing
// of it runs, and who did not ask for a GPU is told why it gets none.
#include "ops/cuda_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace narrow::ops {
namespace {

TEST(CudaPlugin, OfOtherHeadersIsRefused) {
  for (int i = 0; i < 2; ++i) {
    try {
      make_backend("cuda", 1);
      FAIL() << "it was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::refused);
      EXPECT_THAT(error.what(), testing::HasSubstr("is of another version than this program"));
    }
  }
}

TEST(CudaPlugin, IsNotPassedOverInSilence) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(make_backend("auto", 1)->name(), "cpu");
  EXPECT_EQ(make_backend("auto", 1)->name(), "cpu");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(
      said, testing::HasSubstr("auto takes cpu; --backend cuda: libnarrow_cuda.so is of another"));
  EXPECT_EQ(said.find("auto"), said.rfind("auto")) << "said twice:\n" << said;
}

}  // namespace
}  // namespace narrow::ops
