// Runs of words against the harness's Janitor (tests/goldens/tasks/make_corpus.py).
#include "evaluate/overlap.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/temporary_directory.h"

namespace narrow::evaluate {
namespace {

TEST(Overlap, SharedRunsAreTheJanitors) {
  const Json golden = parse_json(
      read_text_maybe_gz(NARROW_SOURCE_DIR "/tests/goldens/tasks/corpus.json.gz"), "corpus.json");
  int64_t shared = 0, apart = 0;
  for (const Json& row : golden["overlap"]) {
    WordRuns runs;
    runs.add(row["text"].get<std::string>());
    const bool expected = row["shared"].get<bool>();
    EXPECT_EQ(runs.shared_with(row["question"].get<std::string>()), expected) << row;
    (expected ? shared : apart) += 1;
  }
  EXPECT_GE(shared, 5);
  EXPECT_GE(apart, 5);
}

TEST(Overlap, DocumentsOfATaskAreCounted) {
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  const std::string known = "a b c d e f g h i j k l m n";
  write_text(folder / "rows.jsonl",
             to_line({{"q", "So: " + known}}) + "\n" + to_line({{"q", "something else"}}) + "\n");
  write_text(folder / "t.yaml",
             "name: t\nversion: 1\nkind: generate\ndata: {test: [rows.jsonl]}\nquestion: '{{q}}'\n"
             "answer: x\ngenerate: {max_tokens: 4}\nfilters: {all: {}}\n"
             "metrics: ['exact_match,all']\n");
  const Task task = load_task((folder / "t.yaml").string(), folder);
  WordRuns runs;
  EXPECT_EQ(shared_documents(task, runs), 0);
  runs.add("A, B c D e f g h (i) j k l M!");
  EXPECT_EQ(shared_documents(task, runs), 1);
}

}  // namespace
}  // namespace narrow::evaluate
