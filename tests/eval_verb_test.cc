// narrow eval as a program: killed at many instants and run again it ends with the answers of a run
// that was left alone; stored answers are scored again without a model.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/temporary_directory.h"
#include "store/store.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

class EvalVerb : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(root_ / "tasks");
    fs::create_directories(root_ / "data");
    std::string rows;
    for (int i = 0; i < 150; ++i)
      rows +=
          to_line({{"text", "Once upon a time there were " + std::to_string(i) + " birds. They"},
                   {"answer", i % 2 ? "sang" : "flew"}}) +
          "\n";
    write_text(root_ / "data/rows.jsonl", rows);
    write_task("first: '([a-z]+)'");
  }

  void write_task(const std::string& filter) {
    write_text(root_ / "tasks/birds.yaml",
               "name: birds\nversion: 1\nkind: generate\ndata: {test: [rows.jsonl]}\n"
               "question: '{{text}}'\nanswer: '{{answer}}'\ngenerate: {max_tokens: 4}\n"
               "filters: {word: {" +
                   filter + "}}\nmetrics: ['exact_match,word']\n");
  }

  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {NARROW_BINARY, "eval", "-q"});
    arguments.insert(arguments.end(),
                     {"--task-dir", root_ / "tasks", "--data", root_ / "data", "--threads", "1"});
    const pid_t child = fork();
    if (child != 0) return child;
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    execv(NARROW_BINARY, pointers.data());
    _exit(127);
  }
  static int wait(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  std::vector<std::string> ask(const std::string& folder) const {
    return {std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k", "--tasks", "birds", "-o",
            root_ / folder};
  }
  static std::vector<store::Row> rows(const fs::path& folder) {
    const store::Store store(folder / "eval.db");
    return store.rows(store.cells().at(0));
  }

  const TemporaryDirectory folder_;
  const fs::path root_ = folder_.path();
};

TEST_F(EvalVerb, KilledRunsEndAsOneThatWasLeftAlone) {
  ASSERT_EQ(wait(start(ask("whole"))), 0);
  int kills = 0;
  size_t most = 0;
  for (int delay_ms = 40; delay_ms < 4000; delay_ms += 40) {
    const pid_t child = start(ask("killed"));
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    kill(child, SIGKILL);
    if (const int status = wait(child); WIFEXITED(status)) break;
    ++kills;
    if (!fs::exists(root_ / "killed/eval.db")) continue;
    const store::Store store(root_ / "killed/eval.db");
    if (store.cells().empty()) continue;
    const size_t there = store.rows(store.cells().at(0)).size();
    EXPECT_GE(there, most);  // nothing is lost again
    most = there;
  }
  EXPECT_GE(kills, 1);
  ASSERT_EQ(wait(start(ask("killed"))), 0);
  const auto whole = rows(root_ / "whole"), killed = rows(root_ / "killed");
  ASSERT_EQ(whole.size(), 150u);
  ASSERT_EQ(killed.size(), 150u);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(whole[i].data, killed[i].data) << i;
  EXPECT_EQ(read_text(root_ / "whole/samples_birds.jsonl"),
            read_text(root_ / "killed/samples_birds.jsonl"));
}

// The model's part of the key: every file of it, the tokenizer's as well.
TEST_F(EvalVerb, OtherModelFilesAreOtherAnswers) {
  fs::copy(fs::path(NARROW_SOURCE_DIR) / "tests/goldens/stories260k", root_ / "model");
  const auto cells_after = [&](const std::string& change) {
    if (!change.empty())
      write_text(root_ / "model" / change, read_text(root_ / "model" / change) + "\n");
    EXPECT_EQ(
        wait(start({root_ / "model", "--tasks", "birds", "--limit", "2", "-o", root_ / "out"})), 0);
    const store::Store store(root_ / "out/eval.db");
    return store.cells().size();
  };
  EXPECT_EQ(cells_after(""), 1u);
  EXPECT_EQ(cells_after(""), 1u);
  EXPECT_EQ(cells_after("config.json"), 2u);
  EXPECT_EQ(cells_after("tokenizer.json"), 3u);
}

TEST_F(EvalVerb, RescoresWithoutAsking) {
  ASSERT_EQ(wait(start(ask("out"))), 0);
  const Json before = read_json(root_ / "out/results.json")["results"]["birds"];
  const auto stored = rows(root_ / "out");
  ASSERT_EQ(wait(start({"--rescore", root_ / "out", "-o", root_ / "same"})), 0);
  EXPECT_EQ(read_json(root_ / "same/results.json")["results"]["birds"], before);
  EXPECT_EQ(read_text(root_ / "same/samples_birds.jsonl"),
            read_text(root_ / "out/samples_birds.jsonl"));

  write_task("last: '(sang|flew|.)$'");
  ASSERT_EQ(wait(start({"--rescore", root_ / "out", "-o", root_ / "other"})), 0);
  EXPECT_NE(read_text(root_ / "other/samples_birds.jsonl"),
            read_text(root_ / "out/samples_birds.jsonl"));
  const auto after = rows(root_ / "out");  // the evidence stays
  for (size_t i = 0; i < stored.size(); ++i) EXPECT_EQ(stored[i].data, after[i].data);

  write_text(root_ / "data/rows.jsonl", to_line({{"text", "x"}, {"answer", "y"}}) + "\n");
  EXPECT_NE(wait(start({"--rescore", root_ / "out", "-o", root_ / "refused"})), 0);
  EXPECT_FALSE(fs::exists(root_ / "refused/results.json"));
}

}  // namespace
}  // namespace narrow
