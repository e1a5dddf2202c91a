// A study on stories260K: killed at many instants and run again, it ends with the rows of a study
// that was left alone.
#include "study/study.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "store/store.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

class StudyTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("narrow_study_" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_ / "data");
    fs::copy(fs::path(NARROW_SOURCE_DIR) / "tests/goldens/evaluation/data", root_ / "data",
             fs::copy_options::recursive);
    fs::create_directories(root_ / "data/text");
    std::string text, prompts;
    for (int i = 0; i < 60; ++i)
      text += "Once upon a time there was a dog named Tim. He had " + std::to_string(i) +
              " red balls and liked to run in the park with his friends.\n";
    for (int i = 0; i < 3; ++i)
      prompts +=
          to_line({{"id", i}, {"text", "One day, Lily saw " + std::to_string(i) + " birds"}}) +
          "\n";
    write_text(root_ / "data/text/squad_passages.txt", text);
    write_text(root_ / "data/text/squad_prompts.jsonl", prompts);
    plan_ = study::parse_plan(parse_yaml(R"(
name: test
formats: [bf16, w8a8-fp]
tasks: [{name: arc_challenge, limit: 4}, {name: winogrande, limit: 4}]
similarity: {kl: {windows: 2, length: 32}, text: {prompts: 3, max_tokens: 8}}
load: {scenarios: [chat], scale: 0.05, sync: {requests: 1}, async: {requests: 2}}
)",
                                         "test plan"),
                              "test plan");
    plan_.model = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k";
    settings_.data = root_ / "data";
    settings_.version = "test";
    settings_.threads = 1;
    log::set_level(log::Level::warning);
  }
  void TearDown() override { fs::remove_all(root_); }

  // In a process of its own, since a kill ends it. Returns the wait status.
  int run_in_child(const fs::path& directory, const std::string& fault) {
    const pid_t child = fork();
    if (child == 0) {
      if (!fault.empty()) setenv("NARROW_FAULT", fault.c_str(), 1);
      try {
        study::run(plan_, settings_, directory);
      } catch (const std::exception& error) {
        log::write(log::Level::error, error.what());
        _exit(1);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  // Every row but timings, by cell.
  std::map<std::string, std::string> rows(const fs::path& directory) {
    const store::Store store(directory / "study.db");
    std::map<std::string, std::string> all;
    for (const store::Cell& cell : store.cells()) {
      EXPECT_TRUE(store.finished(cell)) << cell.kind << " " << cell.name;
      std::string& text = all[cell.kind + " " + cell.format + " " + cell.name];
      for (store::Row row : store.rows(cell)) {
        for (const char* key : {"seconds", "ttft_s", "e2e_s", "itl_s", "sent_s", "intended_s"})
          row.data.erase(key);
        text += std::to_string(row.index) + " " + to_line(row.data) + "\n";
      }
    }
    return all;
  }

  fs::path root_;
  study::Plan plan_;
  study::Settings settings_;
};

TEST_F(StudyTest, AKilledStudyEndsLikeOneLeftAlone) {
  const fs::path whole = root_ / "whole";
  ASSERT_EQ(run_in_child(whole, ""), 0);
  const auto expected = rows(whole);
  EXPECT_GE(expected.size(), 12u);
  int killed = 0;
  for (const char* fault : {"store.fsync:kill:1", "store.append:kill:7", "store.fsync:kill:6",
                            "ckpt.write:kill:9", "ckpt.rename:kill:1", "store.fsync:kill:12"}) {
    SCOPED_TRACE(fault);
    const fs::path directory = root_ / "killed";
    fs::remove_all(directory);
    killed += WIFSIGNALED(run_in_child(directory, fault));
    ASSERT_EQ(run_in_child(directory, ""), 0);
    EXPECT_EQ(rows(directory), expected);
  }
  EXPECT_GE(killed, 4);
}

TEST_F(StudyTest, AnEncoderAddsItsScores) {
  settings_.encoder =
      std::string(NARROW_SOURCE_DIR) + "/tests/goldens/similarity/encoders/tiny-bert";
  const fs::path directory = root_ / "encoder";
  ASSERT_EQ(run_in_child(directory, ""), 0);
  const auto scores = [&] {
    const store::Store store(directory / "study.db");
    std::vector<Json> found;
    for (const store::Cell& cell : store.cells())
      if (cell.kind == "similarity" && cell.name == "text" && cell.key.contains("encoder"))
        for (const store::Row& row : store.rows(cell)) found.push_back(row.data);
    return found;
  };
  ASSERT_EQ(scores().size(), 3u);
  for (const Json& row : scores()) {
    // A random encoder's cosines have no sign of their own, but alike texts are at 1.
    EXPECT_LE(row["sts"].get<double>(), 1 + 1e-6);
    EXPECT_LE(row["bertscore_f1"].get<double>(), 1 + 1e-6);
    const bool same = row["base_text"] == row["text"];
    EXPECT_EQ(same, row["sts"].get<double>() > 1 - 1e-6);
  }
  // Without it the texts are compared again, in a cell of their own.
  settings_.encoder.clear();
  ASSERT_EQ(run_in_child(directory, ""), 0);
  const store::Store store(directory / "study.db");
  int64_t cells = 0;
  for (const store::Cell& cell : store.cells())
    cells += cell.kind == "similarity" && cell.name == "text";
  EXPECT_EQ(cells, 2);
}

TEST_F(StudyTest, AnotherPlanIsRefusedInTheSameFolder) {
  ASSERT_EQ(run_in_child(root_ / "study", ""), 0);
  plan_.tasks.pop_back();
  EXPECT_THROW(study::run(plan_, settings_, root_ / "study"), Error);
}

TEST_F(StudyTest, AFullDiskIsAnErrorAndLosesNothing) {
  const fs::path directory = root_ / "full";
  EXPECT_EQ(WEXITSTATUS(run_in_child(directory, "ckpt.write:enospc:5")), 1);
  EXPECT_FALSE(fs::exists(directory / "checkpoints/w8a8-fp"));
  ASSERT_EQ(run_in_child(directory, ""), 0);
}

}  // namespace
}  // namespace narrow
