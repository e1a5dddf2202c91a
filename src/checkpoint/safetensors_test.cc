#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const std::string kTwo =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}})";

void expect_refused(const std::string& header, int64_t data_bytes, const std::string& message) {
  EXPECT_THAT([&] { parse_safetensors_header(header, data_bytes, "file"); },
              ThrowsMessage<Error>(HasSubstr(message)))
      << header.substr(0, 200);
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, ReadsWhatIsThere) {
  TemporaryDirectory directory;
  const auto path = directory.file(
      "m.safetensors",
      safetensors_bytes(kTwo + "   ", std::string("\0\0\x80\x3f\0\0\0\x40\x80\x3f\0\x40", 12)));
  const SafetensorsFile file{InputFile(path)};
  EXPECT_EQ(file.read("a").as<float>()[0], 1);
  EXPECT_EQ(file.read("a").as<float>()[1], 2);
  EXPECT_EQ(to_float(file.read("b").as<bf16>()[1]), 2);
  EXPECT_THROW(file.read("c"), Error);
}

TEST(Safetensors, ReadsLargeTensorsWhole) {
  constexpr int64_t kBytes = (int64_t{130} << 20) + 3;  // two pieces and a rest
  std::string data(kBytes, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 251);
  const std::string size = std::to_string(kBytes);
  TemporaryDirectory directory;
  const SafetensorsFile file{InputFile(directory.file(
      "m.safetensors", safetensors_bytes(one("I8", "[" + size + "]", "[0," + size + "]"), data)))};
  const Tensor read = file.read("t");
  EXPECT_TRUE(std::ranges::equal(read.raw(), std::as_bytes(std::span(data))));
}

TEST(Safetensors, AcceptsScalarsAndEmptyTensors) {
  EXPECT_EQ(parse_safetensors_header(R"({"e":{"dtype":"I8","shape":[0,4],"data_offsets":[0,0]},)"
                                     R"("s":{"dtype":"I8","shape":[],"data_offsets":[0,1]}})",
                                     1, "file")
                .size(),
            2u);
}

// One case for each rule of the format; the last group is refused here and accepted by the
// reference reader.
TEST(Safetensors, RefusesBrokenHeaders) {
  expect_refused("", 0, "start with '{'");
  expect_refused("[]", 0, "start with '{'");
  expect_refused("{", 0, "not valid JSON");
  expect_refused("{}x", 0, "not valid JSON");
  expect_refused("{}", 1, "own 0 bytes");
  expect_refused(R"({"t":1})", 0, "unexpected number");
  expect_refused(R"({"t":[]})", 0, "unexpected list");
  expect_refused(R"({"t":null})", 0, "unexpected null");
  expect_refused(R"({"__metadata__":{"a":1}})", 0, "unexpected number");
  expect_refused(R"({"__metadata__":{"a":{}}})", 0, "unexpected object");
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "twice");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1]}})", 4, "needs dtype");
  expect_refused(R"({"t":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
                 "twice");
  expect_refused(one("F31", "[1]", "[0,4]"), 4, "unknown dtype");
  expect_refused(one("F4", "[2]", "[0,1]"), 1, "unknown dtype");
  expect_refused(one("F32", "[-1]", "[0,4]"), 4, "negative");
  expect_refused(one("F32", "[1.0]", "[0,4]"), 4, "fraction");
  expect_refused(one("F32", "[[1]]", "[0,4]"), 4, "unexpected list");
  expect_refused(one("F32", "[1]", "[0]"), 4, "two numbers");
  expect_refused(one("F32", "[1]", "[0,4,4]"), 4, "more than two");
  expect_refused(one("F32", "[1]", "[4,0]"), 4, "span");
  expect_refused(one("F32", "[2]", "[0,4]"), 4, "needs 8");
  expect_refused(one("F32", "[1]", "[4,8]"), 8, "hole");
  expect_refused(one("F32", "[1]", "[0,4]"), 5, "own 4 bytes");
  expect_refused(one("F32", "[1]", "[0,4]"), 3, "own 4 bytes");
  expect_refused(one("F32", "[4611686018427387904]", "[0,0]"), 0, "overflows");
  expect_refused(one("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflows");
  expect_refused(one("F32", "[18446744073709551615]", "[0,0]"), 0, "63 bits");
  expect_refused(R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},)"
                 R"("b":{"dtype":"I8","shape":[2],"data_offsets":[1,3]}})",
                 3, "overlaps");
  expect_refused("{\"\xff\":1}", 0, "not valid JSON");
  expect_refused(R"({"\ud800":1})", 0, "not valid JSON");

  expect_refused(R"({"t":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},)"
                 R"("t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})",
                 1, "named twice");
  expect_refused(R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1],"x":1}})", 1,
                 "unknown field");
  expect_refused(" {}", 0, "start with '{'");
  expect_refused("\xef\xbb\xbf{}", 0, "start with '{'");
  expect_refused(R"({"":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "empty tensor name");
  expect_refused(R"({"a\u0000b":{}})", 0, "NUL");
  expect_refused(R"({"../x":{}})", 0, "'..'");
  expect_refused(one("I8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "8 dimensions");
  expect_refused(one("I8", "[4611686018427387904,8,0]", "[0,0]"), 0, "overflows");
}

TEST(Safetensors, RefusesEveryTruncationAndATrailingByte) {
  const std::string whole = safetensors_bytes(kTwo, std::string(12, '\1'));
  TemporaryDirectory directory;
  SafetensorsFile{InputFile(directory.file("whole", whole))};
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(SafetensorsFile{InputFile(directory.file("cut", whole.substr(0, size)))}, Error)
        << size;
  EXPECT_THROW(SafetensorsFile{InputFile(directory.file("long", whole + "x"))}, Error);
}

TEST(Safetensors, RefusesMoreTensorsThanAnyModelHas) {
  std::string header = "{";
  for (int i = 0; i <= 1 << 18; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) +
              R"(":{"dtype":"I8","shape":[0],"data_offsets":[0,0]})";
  expect_refused(header + "}", 0, "more than 262144");
}

TEST(Safetensors, RefusesHeaderLengthsBeyondTheFile) {
  TemporaryDirectory directory;
  for (uint64_t length : {uint64_t{0}, uint64_t{100}, uint64_t{100'000'001}, uint64_t{1} << 63,
                          ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes += "{}";
    EXPECT_THROW(SafetensorsFile{InputFile(directory.file("m", bytes))}, Error) << length;
  }
}

}  // namespace
}  // namespace narrow::checkpoint
