// STS and BERTScore on a real encoder (scripts/fetch_model.py minilm) against sentence-transformers
// and bert_score (tests/goldens/similarity/README.md).
#include <gtest/gtest.h>

#include "base/json.h"
#include "similarity/bertscore.h"
#include "similarity/sts.h"

namespace narrow::similarity {
namespace {

const std::string kMiniLm = std::string(NARROW_DATA_DIR) + "/models/all-MiniLM-L6-v2";
const std::string kPairs =
    std::string(NARROW_SOURCE_DIR) + "/tests/goldens/similarity/minilm.jsonl";

TEST(MiniLm, EqualsSentenceTransformers) {
  TextEncoder encoder(kMiniLm, "cpu", 0);
  EXPECT_EQ(encoder.checkpoint().sentence_tokens(), 256);
  int64_t pairs = 0;
  for_each_json_line(kPairs, [&](Json&& row, int64_t) {
    SCOPED_TRACE(row["id"].dump());
    const auto a = sentence_embedding(encoder, row["a"].get<std::string>());
    const auto b = sentence_embedding(encoder, row["b"].get<std::string>());
    EXPECT_NEAR(cosine(a, b), row["minilm_cosine"].get<double>(), 1e-5);
    for (size_t i = 0; i < 8; ++i)
      EXPECT_NEAR(a[i], row["embedding_a_first8"][i].get<double>(), 1e-5) << i;
    ++pairs;
  });
  EXPECT_EQ(pairs, 21);
}

TEST(MiniLm, EqualsBertScore) {
  TextEncoder encoder(kMiniLm, "cpu", 0);
  EXPECT_EQ(encoder.checkpoint().model_tokens(), 512);
  BertScorer scorer(encoder, std::nullopt);
  EXPECT_EQ(scorer.layer(), 6);
  for_each_json_line(kPairs, [&](Json&& row, int64_t) {
    SCOPED_TRACE(row["id"].dump());
    const BertScore got = scorer.score(row["a"].get<std::string>(), row["b"].get<std::string>());
    const Json& wanted = row["bertscore_minilm_layer6"];
    // The script leaves out pairs with an empty text, to which bert_score gives 0.
    EXPECT_NEAR(got.precision, wanted.is_null() ? 0 : wanted["precision"].get<double>(), 1e-5);
    EXPECT_NEAR(got.recall, wanted.is_null() ? 0 : wanted["recall"].get<double>(), 1e-5);
    EXPECT_NEAR(got.f1, wanted.is_null() ? 0 : wanted["f1"].get<double>(), 1e-5);
  });
}

}  // namespace
}  // namespace narrow::similarity
