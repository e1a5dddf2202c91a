#include "similarity/divergence.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/test_files.h"
#include "model/test_logits.h"

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

std::vector<std::vector<float>> all_logits(model::Decoder& decoder, std::optional<DType> kv_dtype,
                                           const std::vector<int32_t>& ids) {
  std::vector<std::vector<float>> rows;
  const auto keep = [&](int64_t, View<const float> logits) {
    for (int64_t r = 0; r < logits.rows; ++r)
      rows.emplace_back(logits.row(r).begin(), logits.row(r).end());
  };
  model::for_each_logits(decoder, ids, keep, kv_dtype);
  return rows;
}

// Windows longer than a step and of other lengths than the one before; a row of each that is not
// done, of the logits that both models give alone.
void expect_those_of_logits_alone(const std::string& backend_name, std::optional<DType> kv_dtype) {
  const std::string goldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/";
  const auto base_model = checkpoint::open(goldens + "stories260k");
  const auto variant_model = checkpoint::open(goldens + "compressed-tensors/w4a16_gptq_group");
  const auto backend = ops::make_backend(backend_name, 2);
  model::Decoder base(*base_model, *backend), variant(*variant_model, *backend);
  std::mt19937 random(3);
  TextWindows text;
  for (const size_t length : {300, 40, 280, 2, 300}) {
    text.windows.emplace_back(length);
    for (int32_t& id : text.windows.back()) id = static_cast<int32_t>(random() % 500);
  }
  std::vector<Json> rows;
  measure_divergence(base, variant, kv_dtype, text, /*done=*/{1}, [&](int64_t index, Json row) {
    EXPECT_EQ(row["window"], index);
    rows.push_back(std::move(row));
  });
  ASSERT_EQ(rows.size(), 4);
  for (const Json& row : rows) {
    const auto& ids = text.windows[row["window"].get<size_t>()];
    const auto p = all_logits(base, kv_dtype, ids), q = all_logits(variant, kv_dtype, ids);
    ASSERT_EQ(row["positions"], ids.size() - 1);
    ASSERT_EQ(row["kl"].size(), ids.size() - 1);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto expected = ops::divergence(p[i], q[i], ids[i + 1]);
      EXPECT_EQ(row["kl"][i], expected.kl);
      EXPECT_EQ(row["nll_base"][i], expected.nll_p);
      EXPECT_EQ(row["nll"][i], expected.nll_q);
      EXPECT_EQ(row["top1_agree"][i], expected.same_argmax ? 1 : 0);
    }
  }
}

TEST(MeasureDivergence, IsThatOfLogitsComputedAlone) { expect_those_of_logits_alone("cpu", {}); }

TEST(MeasureDivergence, IsWithKeysAndValuesAsAskedFor) {
  expect_those_of_logits_alone("reference", DType::f8_e4m3);
}

TEST(MeasureDivergence, RefusesLogitsOfTwoBackends) {
  const auto opened =
      checkpoint::open(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k");
  const auto one = ops::make_backend("cpu", 1), other = ops::make_backend("cpu", 1);
  model::Decoder base(*opened, *one), variant(*opened, *other);
  EXPECT_THROW(measure_divergence(base, variant, {}, {}, {}, [](int64_t, Json) {}), Error);
}

}  // namespace
}  // namespace narrow::similarity
