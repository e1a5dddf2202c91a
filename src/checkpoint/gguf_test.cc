#include "checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/test_files.h"

namespace narrow::checkpoint {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const std::filesystem::path kGoldens =
    std::filesystem::path(NARROW_SOURCE_DIR) / "tests/goldens/gguf";

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

TEST(GgufBlocks, EqualTheFormatsOwnDecoderBitForBit) {
  const Json golden = read_json(kGoldens / "blocks.json");
  const uint32_t ids[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
  size_t checked = 0;
  for (uint32_t id : ids) {
    const GgufType* type = find_gguf_type(id);
    ASSERT_NE(type, nullptr);
    const Json& entry = golden.at(std::string(type->name));
    const std::string blocks = from_hex(entry["blocks"]), floats = from_hex(entry["floats"]);
    std::vector<float> out(floats.size() / sizeof(float));
    dequantize_gguf(*type, std::as_bytes(std::span(blocks)), out);
    EXPECT_EQ(std::memcmp(out.data(), floats.data(), floats.size()), 0) << type->name;
    ++checked;
  }
  EXPECT_EQ(checked, golden.size());
}

TEST(GgufCheckpoint, TensorsEqualThePeersUnderHuggingFaceNames) {
  const Json golden = read_json(kGoldens / "expected.json");
  for (const auto& [arch, tensors] : golden.items()) {
    const auto model = open(kGoldens / ("tiny_" + arch + ".gguf"));
    ASSERT_EQ(model->tensor_names().size(), tensors.size());
    for (const auto& [name, hash] : tensors.items()) {
      Sha256 ours;
      ours.add(model->read(name).raw());
      EXPECT_EQ(ours.hex(), hash.get<std::string>()) << arch << " " << name;
      EXPECT_EQ(model->info(name).shape, model->read(name).shape());
    }
  }
}

TEST(GgufCheckpoint, ConfigAndDocumentsComeFromTheMetadata) {
  const auto llama = open(kGoldens / "tiny_llama.gguf");
  EXPECT_EQ(llama->config().family, "llama");
  EXPECT_EQ(llama->config().rope_theta, 50000);
  EXPECT_EQ(llama->config().rms_norm_epsilon, 1e-5);
  EXPECT_TRUE(llama->config().tied_embeddings);
  EXPECT_THAT(llama->config().eos_ids, testing::ElementsAre(262));
  EXPECT_EQ(llama->format(), "bf16");
  EXPECT_EQ(llama->documents().chat_template, "{{ messages[0].content }}");
  const Json tokenizer = parse_json(llama->documents().tokenizer, "tokenizer.json");
  EXPECT_EQ(tokenizer["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
  EXPECT_EQ(tokenizer["added_tokens"].size(), 3u);
  EXPECT_EQ(tokenizer["added_tokens"][0]["special"], true);
  EXPECT_EQ(tokenizer["added_tokens"][2]["special"], false);  // user-defined

  const auto qwen = open(kGoldens / "tiny_qwen2.gguf");
  EXPECT_TRUE(qwen->config().attention_bias);
  EXPECT_FALSE(qwen->config().tied_embeddings);
  const Json second = parse_json(qwen->documents().tokenizer, "tokenizer.json");
  EXPECT_EQ(second["normalizer"]["type"], "NFC");
  EXPECT_EQ(second["model"]["vocab"].size(), 264u);  // padding rows are no tokens
  EXPECT_EQ(qwen->config().vocabulary, 266);
}

// Hand-made files: a header, metadata and tensor entries, each field open to change.
class GgufBuilder {
 public:
  template <class T>
  GgufBuilder& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  GgufBuilder& text(const std::string& value) {
    put<uint64_t>(value.size());
    bytes_ += value;
    return *this;
  }
  GgufBuilder& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes_ += "GGUF";
    return put(version).put(tensors).put(keys);
  }
  GgufBuilder& tensor(const std::string& name, std::vector<uint64_t> dims, uint32_t type,
                      uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dims.size()));
    for (uint64_t dim : dims) put(dim);
    return put(type).put(offset);
  }
  GgufBuilder& data(size_t count, size_t alignment = 32) {
    bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0');
    bytes_.append(count, '\1');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

void expect_refused(const GgufBuilder& builder, const std::string& message) {
  TemporaryDirectory directory;
  const auto path = directory.file("model.gguf", builder.bytes());
  EXPECT_THAT([&] { GgufFile{InputFile(path)}; }, ThrowsMessage<Error>(HasSubstr(message)));
}

TEST(GgufFile, AcceptsAWellFormedFile) {
  TemporaryDirectory directory;
  const auto path = directory.file("model.gguf", GgufBuilder()
                                                     .header(2, 1)
                                                     .text("k")
                                                     .put<uint32_t>(4)
                                                     .put<uint32_t>(7)
                                                     .tensor("a", {8}, 0, 0)
                                                     .tensor("b", {4, 2}, 0, 32)
                                                     .data(64)
                                                     .bytes());
  const GgufFile file{InputFile(path)};
  EXPECT_EQ(file.integer("k"), 7);
  EXPECT_THROW(file.text("k"), Error);
  EXPECT_THROW(file.real("k"), Error);
  EXPECT_THROW(file.flag("k"), Error);
  EXPECT_THROW(file.texts("k"), Error);
  EXPECT_EQ(file.tensors().at("b").shape, (std::vector<int64_t>{2, 4}));
}

TEST(GgufFile, RefusesBadHeaders) {
  expect_refused(GgufBuilder(), "not a GGUF file");
  expect_refused(GgufBuilder().header(0, 0, 2), "version 2");
  expect_refused(GgufBuilder().header(uint64_t{1} << 60, 0), "tensors declared");
  expect_refused(GgufBuilder().header(0, uint64_t{1} << 63), "63 bits");
  expect_refused(GgufBuilder().header(0, 9), "metadata keys declared");
}

// The shapes of published parser bugs: sizes that wrap, counts above the file, types not checked.
TEST(GgufFile, RefusesPublishedAttacks) {
  const auto with_tensor = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    return GgufBuilder().header(1, 0).tensor("t", std::move(dims), type, offset).data(256);
  };
  expect_refused(with_tensor({(uint64_t{1} << 42) + 1, uint64_t{1} << 22}, 0, 0), "overflows");
  expect_refused(with_tensor({uint64_t{1} << 62}, 0, 0), "overflows");
  expect_refused(with_tensor({uint64_t{1} << 61}, 0, 0), "overflows");
  expect_refused(with_tensor({uint64_t{1} << 40}, 0, 0), "the file");
  expect_refused(with_tensor({0}, 0, 0), "zero");
  expect_refused(with_tensor({8, 8, 8, 8, 8}, 0, 0), "dimensions");
  expect_refused(with_tensor({33}, 2, 0), "blocks");
  expect_refused(with_tensor({32}, 10, 0), "not supported");
  expect_refused(with_tensor({8}, 0, 32), "hole");
  expect_refused(with_tensor({8}, 0, ~uint64_t{0} - 31), "63 bits");
  expect_refused(with_tensor({8}, 0, 0), "belong to none");

  const auto with_key = [] { return GgufBuilder().header(0, 1).text("k"); };
  // Array of 2^63 and of 2^40 elements, element type that is no type, nested array.
  expect_refused(with_key().put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(1ull << 63), "63 bits");
  expect_refused(with_key().put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(1ull << 40), "fit");
  expect_refused(with_key().put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(1), "unknown value");
  expect_refused(with_key().put<uint32_t>(77).put<uint64_t>(1), "unknown value");
  expect_refused(with_key().put<uint32_t>(8).put<uint64_t>(1ull << 40), "limit");
  expect_refused(with_key().put<uint32_t>(8).put<uint64_t>(100), "ends inside");

  const auto with_alignment = [](uint32_t alignment) {
    return GgufBuilder().header(0, 1).text("general.alignment").put<uint32_t>(4).put(alignment);
  };
  for (uint32_t bad : {0u, 1u, 7u, 48u, 131072u, 0xffffffffu})
    expect_refused(with_alignment(bad), "power of two");
  expect_refused(GgufBuilder().header(0, 1).text("general.alignment").put<uint32_t>(6).put(32.0f),
                 "whole number");
  expect_refused(GgufBuilder()
                     .header(0, 2)
                     .text("k")
                     .put<uint32_t>(4)
                     .put<uint32_t>(1)
                     .text("k")
                     .put<uint32_t>(4)
                     .put<uint32_t>(1),
                 "twice");
  expect_refused(GgufBuilder().header(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).data(64),
                 "twice");
  expect_refused(GgufBuilder().header(2, 0).tensor("t", {8}, 0, 0).tensor("u", {8}, 0, 0).data(64),
                 "overlap");
}

TEST(GgufFile, RefusesEveryTruncation) {
  const std::string whole = GgufBuilder()
                                .header(2, 2)
                                .text("k")
                                .put<uint32_t>(4)
                                .put<uint32_t>(7)
                                .text("list")
                                .put<uint32_t>(9)
                                .put<uint32_t>(8)
                                .put<uint64_t>(2)
                                .text("one")
                                .text("two")
                                .tensor("a", {8}, 0, 0)
                                .tensor("b", {8}, 0, 32)
                                .data(64)
                                .bytes();
  TemporaryDirectory directory;
  GgufFile{InputFile(directory.file("whole.gguf", whole))};
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto path = directory.file("cut.gguf", whole.substr(0, size));
    EXPECT_THROW(GgufFile{InputFile(path)}, Error) << size;
  }
}

TEST(GgufCheckpoint, RefusesForeignArchitecturesAndNames) {
  TemporaryDirectory directory;
  std::string bytes = read_text(kGoldens / "tiny_llama.gguf");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string copy = bytes;
    copy.replace(copy.find(from), from.size(), to);
    return directory.file("changed.gguf", copy);
  };
  EXPECT_THAT([&] { open(changed("blk.0.attn_q", "blk.0.attn_z")); },
              ThrowsMessage<Error>(HasSubstr("has no place")));
  EXPECT_THAT([&] { open(changed("smollm", "nobody")); },
              ThrowsMessage<Error>(HasSubstr("pre-tokenizer")));
  EXPECT_THROW(open(changed("general.architecture", "general.architecturf")), Error);
}

}  // namespace
}  // namespace narrow::checkpoint
