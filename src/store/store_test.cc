#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "store/sqlite.h"

namespace narrow::store {
namespace {

namespace fs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  fs::path file() const { return directory_ / "study.db"; }

  const TemporaryDirectory folder_;
  const fs::path directory_ = folder_.path();
  const Cell cell_{"eval", "bf16", "arc_challenge", {{"shots", 0}}};
};

TEST_F(StoreTest, RowsSurviveReopening) {
  {
    Store store(file());
    store.add_cell(cell_);
    store.append(cell_, {1, {{"acc", 0.0}}});
    store.append(cell_, {0, {{"acc", 1.0}}});
  }
  Store store(file());
  const auto rows = store.rows(cell_);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].index, 0);
  EXPECT_EQ(rows[0].data["acc"], 1.0);
  EXPECT_FALSE(store.finished(cell_));
  store.finish_cell(cell_);
  EXPECT_TRUE(store.finished(cell_));
}

TEST_F(StoreTest, ARowIsNeverRewritten) {
  Store store(file());
  store.add_cell(cell_);
  store.append(cell_, {0, {{"acc", 1.0}}});
  store.flush();
  store.append(cell_, {0, {{"acc", 0.0}}});
  EXPECT_EQ(store.rows(cell_)[0].data["acc"], 1.0);
}

TEST_F(StoreTest, AChangedKeyIsAnotherCell) {
  for (const auto& other : {Cell{"eval", "bf16", "arc_challenge", {{"shots", 1}}},
                            Cell{"eval", "w8a8-fp", "arc_challenge", {{"shots", 0}}},
                            Cell{"eval", "bf16", "hellaswag", {{"shots", 0}}},
                            Cell{"load", "bf16", "arc_challenge", {{"shots", 0}}}}) {
    EXPECT_NE(cell_.id(), other.id());
  }
}

TEST_F(StoreTest, AFactIsNotChangedSilently) {
  Store store(file());
  store.set_fact("model", "a");
  store.set_fact("model", "a");
  EXPECT_THROW(store.set_fact("model", "b"), Error);
  EXPECT_EQ(*store.fact("model"), "a");
  EXPECT_FALSE(store.fact("plan").has_value());
}

TEST_F(StoreTest, RefusesForeignAndDamagedFiles) {
  std::ofstream(file())
      << "this is no database, only text that is long enough to have a header....";
  EXPECT_THROW(Store{file()}, Error);
  fs::remove(file());
  {
    Database other(file());
    other.execute("CREATE TABLE t (x)");
  }
  EXPECT_THROW(Store{file()}, Error);
}

TEST_F(StoreTest, SecondProcessIsRefused) {
  Store store(file());
  EXPECT_THROW(Store{file()}, Error);
}

TEST_F(StoreTest, ChangedBytesAreFound) {
  {
    Store store(file());
    store.add_cell(cell_);
    store.append(cell_, {0, {{"acc", 1.0}}});
  }
  {
    Database database(file());
    database.execute("UPDATE rows SET data = '{\"acc\":0.0}'");
  }
  Store store(file());
  EXPECT_THROW(store.rows(cell_), Error);
}

// Kills a writer at every group commit in turn: what was flushed stays, nothing is doubled, and
// the next run completes the rest.
TEST_F(StoreTest, FlushedRowsSurviveAKillAtEveryCommit) {
  constexpr int kRows = 6;
  for (int pass = 1; pass <= kRows; ++pass) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    const pid_t child = fork();
    if (child == 0) {
      setenv("NARROW_FAULT", ("store.fsync:kill:" + std::to_string(pass)).c_str(), 1);
      Store store(file());
      store.add_cell(cell_);
      for (int i = 0; i < kRows; ++i) {
        store.append(cell_, {i, {{"acc", i}}});
        store.flush();
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "pass " << pass;
    Store store(file());
    ASSERT_EQ(store.rows(cell_).size(), static_cast<size_t>(pass - 1));
    for (int i = 0; i < kRows; ++i) store.append(cell_, {i, {{"acc", i}}});
    const auto rows = store.rows(cell_);
    ASSERT_EQ(rows.size(), static_cast<size_t>(kRows));
    for (int i = 0; i < kRows; ++i) EXPECT_EQ(rows[static_cast<size_t>(i)].data["acc"], i);
  }
}

}  // namespace
}  // namespace narrow::store
