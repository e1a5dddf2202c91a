// STS and BERTScore on two tiny encoders against transformers (tests/goldens/similarity/README.md).
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/test_files.h"
#include "similarity/bertscore.h"
#include "similarity/sts.h"

namespace narrow::similarity {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens =
    fs::path(NARROW_SOURCE_DIR) / "tests" / "goldens" / "similarity" / "encoders";

class Encoders : public testing::TestWithParam<const char*> {
 protected:
  static constexpr double kTolerance = 2e-5;  // float32 sums in another order; values up to 4

  static std::vector<Json> rows(const char* kind, const char* file = "encoders.jsonl") {
    std::vector<Json> list;
    for_each_json_line(kGoldens / file, [&](Json&& row, int64_t) {
      if (row["encoder"] == GetParam() && row.contains(kind)) list.push_back(std::move(row));
    });
    EXPECT_GE(list.size(), 14u) << kind;
    return list;
  }
};

TEST_P(Encoders, IdsAndStates) {
  for (const char* backend : {"cpu", "reference"}) {
    TextEncoder encoder(kGoldens / GetParam(), backend, 2);
    const int64_t layers = encoder.model().config().layers;
    for (const Json& row : rows("ids")) {
      SCOPED_TRACE(row["text"].dump());
      const auto ids =
          encoder.encode(row["text"].get<std::string>(), encoder.checkpoint().model_tokens());
      ASSERT_EQ(ids, row["ids"].get<std::vector<int32_t>>());
      ASSERT_EQ(static_cast<int64_t>(row["states"].size()), layers + 1);
      for (int64_t layer = 0; layer <= layers; ++layer) {
        const Tensor states = encoder.model().forward(ids, layer);
        const auto first = states.matrix<float>().row(0);
        const auto last = states.matrix<float>().row(states.dim(0) - 1);
        const Json& wanted = row["states"][static_cast<size_t>(layer)];
        for (size_t i = 0; i < 4; ++i) {
          EXPECT_NEAR(first[i], wanted[i].get<double>(), kTolerance) << layer;
          EXPECT_NEAR(last[last.size() - 4 + i], wanted[4 + i].get<double>(), kTolerance) << layer;
        }
      }
      const auto embedding = sentence_embedding(encoder, row["text"].get<std::string>());
      for (size_t i = 0; i < 8; ++i)
        EXPECT_NEAR(embedding[i], row["embedding_first8"][i].get<double>(), kTolerance);
    }
  }
}

class BertScores : public Encoders {
 protected:
  void compare(const char* file);
};

void BertScores::compare(const char* file) {
  TextEncoder encoder(kGoldens / GetParam(), "cpu", 2);
  std::vector<std::string> texts, references;
  for (const Json& row : rows("ids")) texts.push_back(row["text"].get<std::string>());
  const auto pairs = rows("plain", file);
  for (const Json& row : pairs) references.push_back(texts[row["a"].get<size_t>()]);
  for (const bool idf : {false, true}) {
    BertScorer scorer(encoder, pairs[0]["layer"].get<int64_t>());
    if (idf) scorer.weigh_by_rarity(references);
    for (const Json& row : pairs) {
      SCOPED_TRACE(row.dump());
      const BertScore got =
          scorer.score(texts[row["a"].get<size_t>()], texts[row["b"].get<size_t>()]);
      const Json& wanted = row[idf ? "idf" : "plain"];
      EXPECT_NEAR(got.precision, wanted[0].get<double>(), kTolerance);
      EXPECT_NEAR(got.recall, wanted[1].get<double>(), kTolerance);
      EXPECT_NEAR(got.f1, wanted[2].get<double>(), kTolerance);
    }
  }
}

TEST_P(BertScores, EqualTheFormulas) { compare("encoders.jsonl"); }
TEST_P(BertScores, EqualThePackage) { compare("bert_score.jsonl"); }

const auto kTiny = testing::Values("tiny-bert", "tiny-roberta");
const auto kName = [](const auto& test) { return std::string(test.param).substr(5); };
INSTANTIATE_TEST_SUITE_P(Tiny, Encoders, kTiny, kName);
INSTANTIATE_TEST_SUITE_P(Tiny, BertScores, kTiny, kName);

TEST(BertScorer, UndefinedWhereEveryWeightIsZero) {
  TextEncoder encoder(kGoldens / "tiny-bert", "cpu", 1);
  BertScorer scorer(encoder, std::nullopt);
  scorer.weigh_by_rarity({"hello"});  // each of its tokens is in every reference
  const BertScore score = scorer.score("hello", "a dog");
  EXPECT_TRUE(std::isnan(score.recall));
  EXPECT_FALSE(std::isnan(score.precision));
  EXPECT_EQ(score.f1, 0);
}

TEST(BertScorer, Layers) {
  EXPECT_EQ(bertscore_layer("roberta-large"), 17);
  EXPECT_EQ(bertscore_layer("bert-base-uncased"), 9);
  EXPECT_EQ(bertscore_layer("all-MiniLM-L6-v2"), std::nullopt);
  TextEncoder encoder(kGoldens / "tiny-bert", "cpu", 1);
  EXPECT_EQ(BertScorer(encoder, std::nullopt).layer(), 3);
  EXPECT_THROW(BertScorer(encoder, 4), Error);
}

TEST(Encoder, RefusesIdsItCannotTake) {
  TextEncoder encoder(kGoldens / "tiny-roberta", "cpu", 1);
  model::Encoder& model = encoder.model();
  EXPECT_EQ(model.config().longest_input(), 64);
  EXPECT_THROW(model.forward({}, 1), Error);
  EXPECT_THROW(model.forward(std::vector<int32_t>(65, 5), 1), Error);
  EXPECT_THROW(model.forward(std::vector<int32_t>{-1}, 1), Error);
  EXPECT_THROW(model.forward(std::vector<int32_t>{100000}, 1), Error);
  EXPECT_THROW(model.forward(std::vector<int32_t>{5}, 4), Error);
  EXPECT_NO_THROW(model.forward(std::vector<int32_t>(64, 5), 3));
}

}  // namespace
}  // namespace narrow::similarity
