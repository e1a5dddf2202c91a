// A small study of stories260K, run in a process of its own, which may be killed or break its
// device.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/temporary_directory.h"
#include "store/store.h"
#include "study/study.h"

namespace narrow {

namespace fs = std::filesystem;

class StudyTest : public testing::Test {
 protected:
  void SetUp() override {
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

  // In a process of its own, since a kill ends it. `beside` runs in a thread of it. Returns the
  // wait status; what an error said is in root_ / "error".
  int run_in_child(const fs::path& directory, const std::string& fault,
                   const std::function<void()>& beside = {}) {
    const pid_t child = fork();
    if (child == 0) {
      if (!fault.empty()) setenv("NARROW_FAULT", fault.c_str(), 1);
      if (beside) std::thread(beside).detach();
      try {
        study::run(plan_, settings_, directory);
      } catch (const std::exception& error) {
        log::write(log::Level::error, error.what());
        write_text(root_ / "error", error.what());
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

  const TemporaryDirectory folder_;
  const fs::path root_ = folder_.path();
  study::Plan plan_;
  study::Settings settings_;
};

}  // namespace narrow
