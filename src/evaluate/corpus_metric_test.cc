// BLEU, chrF, TER, F1 and Matthews' correlation against the harness's own functions
// (tests/goldens/tasks/make_corpus.py).
#include "evaluate/corpus_metric.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace narrow::evaluate {
namespace {

Json golden() {
  return parse_json(read_text_maybe_gz(NARROW_SOURCE_DIR "/tests/goldens/tasks/corpus.json.gz"),
                    "corpus.json");
}

TEST(CorpusMetric, TextsScoreAsTheHarness) {
  int64_t compared = 0;
  const Json all = golden();
  for (const auto& [name, set] : all["texts"].items()) {
    for (const char* metric_name : {"bleu", "chrf", "ter"}) {
      SCOPED_TRACE(name + " " + metric_name);
      const TextMetric& metric = *find_text_metric(metric_name);
      const Json& expected = set[metric_name];
      std::vector<Counts> documents;
      for (size_t i = 0; i < set["items"].size(); ++i) {
        const Json& item = set["items"][i];
        documents.push_back(metric.count(item[1].get<std::string>(), item[0].get<std::string>()));
        EXPECT_NEAR(corpus_score(metric, {documents.back()}), expected["each"][i].get<double>(),
                    1e-9)
            << item;
        ++compared;
      }
      EXPECT_NEAR(corpus_score(metric, documents), expected["score"].get<double>(), 1e-9);
      if (!expected["stderr"].is_null()) {
        EXPECT_NEAR(corpus_error(metric, documents), expected["stderr"].get<double>(), 1e-9);
      }
    }
  }
  EXPECT_GE(compared, 320);
}

TEST(CorpusMetric, ChoicesScoreAsTheHarness) {
  const Json all = golden();
  for (const Json& row : all["choices"]) {
    SCOPED_TRACE(row["pairs"].dump());
    const auto pairs = row["pairs"].get<ChoicePairs>();
    EXPECT_NEAR(find_choice_metric("mcc")->score(pairs), row["mcc"].get<double>(), 1e-12);
    if (row["f1"].is_null()) {
      EXPECT_THROW(find_choice_metric("f1")->score(pairs), Error);
    } else {
      EXPECT_NEAR(find_choice_metric("f1")->score(pairs), row["f1"].get<double>(), 1e-12);
    }
  }
}

}  // namespace
}  // namespace narrow::evaluate
