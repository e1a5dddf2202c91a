#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "evaluate/filter.h"
#include "evaluate/python_random.h"
#include "evaluate/task.h"

namespace narrow::evaluate {
namespace {

// python3 -c "import random; r = random.Random(1234); print(r.random(), r.sample(range(10), 5),
// r.sample(range(5000), 4), r.getrandbits(7))"
TEST(PythonRandom, EqualsCPython) {
  PythonRandom random(1234);
  EXPECT_DOUBLE_EQ(random.random(), 0.9664535356921388);
  PythonRandom fresh(1234);
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{7, 1, 0, 9, 4}));
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{0, 1, 8, 6, 2}));
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{3, 0, 8, 6, 7}));
}

TEST(Filter, ExtractsLikeTheHarness) {
  const Pattern strict("#### (\\-?[0-9\\.\\,]+)");
  const Pattern flexible("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  EXPECT_EQ(extract(strict, 0, "so it is\n#### 1,234 and #### 5"), "1,234");
  EXPECT_EQ(extract(strict, 0, "no answer"), kNoAnswer);
  EXPECT_EQ(extract(flexible, -1, "he has 12 and then $30.50"), "$30.50");
  EXPECT_EQ(extract(flexible, -1, "only 7"), "7");
}

TEST(ExactMatch, IgnoresWhatTheTaskSays) {
  ExactMatch match;
  match.ignore_case = true;
  for (const char* pattern : {",", "\\$", "(?s).*#### ", "\\.$"})
    match.ignore.emplace_back(pattern);
  EXPECT_TRUE(match.matches("$1,234.", "Some reasoning\nover lines\n#### 1234"));
  EXPECT_FALSE(match.matches("1235", "#### 1234"));
}

TEST(Task, BadFilesAreRefusedByName) {
  const auto file = std::filesystem::temp_directory_path() / "narrow_bad_task.yaml";
  for (const char* text :
       {"name: x\nversion: 1\nkind: choice\nquestion: q\nmetrics: [acc]\ndata: {test: [a]}\nodd: "
        "1\n",
        "name: x\nversion: 1\nkind: guess\nquestion: q\nmetrics: [acc]\ndata: {test: [a]}\n",
        "name: x\nversion: 1\nkind: choice\nmetrics: [acc]\ndata: {test: [a]}\n",
        "name: x\nversion: 1\nkind: choice\nquestion: '{{'\nmetrics: [acc]\ndata: {test: [a]}\n",
        "- a\n- b\n", "name: [", "name: x\nname: y\n"}) {
    write_text(file, text);
    EXPECT_THROW(load_task(file.string()), Error) << text;
  }
  std::filesystem::remove(file);
  EXPECT_THROW(load_task("no_such_task"), Error);
}

}  // namespace
}  // namespace narrow::evaluate
