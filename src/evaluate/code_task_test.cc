#include "evaluate/code_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "evaluate/code_documents.h"

namespace narrow::evaluate {
namespace {

// Chen et al.: one minus the share of the subsets of k samples without one that passes.
TEST(PassAtK, EqualsCounting) {
  for (int64_t n = 1; n <= 12; ++n)
    for (int64_t c = 0; c <= n; ++c)
      for (int64_t k = 1; k <= n; ++k) {
        int64_t subsets = 0, failing = 0;
        for (uint32_t set = 0; set < (1u << n); ++set) {
          if (__builtin_popcount(set) != k) continue;
          ++subsets;
          failing += (set & ((1u << c) - 1)) == 0;  // the first c pass
        }
        EXPECT_NEAR(pass_at_k(n, c, k), 1 - static_cast<double>(failing) / subsets, 1e-12);
      }
}

TEST(CodeDocument, InputsStayText) {
  const Json row = parse_code_document(
      R"( {"task_id": "Mbpp/404", "atol": 1e-6, "base_input": [[1, Infinity], [123456789012345678901]],
          "plus_input" : [{"a\"}": [NaN]}], "entry_point":"f"} )",
      "line");
  EXPECT_EQ(row.at("base_input"), "[[1, Infinity], [123456789012345678901]]");
  EXPECT_EQ(row.at("plus_input"), R"([{"a\"}": [NaN]}])");
  EXPECT_EQ(row.at("atol"), 1e-6);
  EXPECT_EQ(parse_code_document("{}", "line"), Json::object());
}

TEST(CodeDocument, RefusesWhatIsNoObject) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[]",
                           "1",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":}",
                           "{\"a\": 1",
                           "{\"a\": 1,",
                           "{\"a\": 1,}",
                           "{a: 1}",
                           "{\"a\": 1} x",
                           "{\"a\": 1}}",
                           "{\"a\": ]}",
                           "{\"a\": [}",
                           "{\"a\": \"",
                           "{\"a\": \"\\",
                           "{\"a\": \"\\\"}",
                           "{\"a\" 1}",
                           "{\"a\": 1 2}",
                           "{\"a\": tru}",
                           "{\"a\": 1, \"a\": 2}",
                           "{\"\\u12\": 1}",
                           "{\"base_input\": }",
                           "{\"base_input\": [",
                           "{\"a\": NaN}",
                           "{,}"}) {
    try {
      parse_code_document(text, "file:7");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::refused);
      EXPECT_THAT(error.what(), testing::HasSubstr("file:7"));
    }
  }
}

TEST(CodeJob, BuildsProgramsAsTheHarnessAndEvalplusDo) {
  const Json he{{"prompt", "def f(x):\n    \"\"\"d\"\"\"\n"},
                {"canonical_solution", "    return x\n"},
                {"entry_point", "f"},
                {"test", "def check(c):\n    assert c(1) == 1"}};
  const Json job = code_job(CodeSet::humaneval, CodeAnswer::completion, he, "    return 1");
  EXPECT_EQ(job.at("code"), "def f(x):\n    \"\"\"d\"\"\"\n    return 1");
  EXPECT_EQ(job.at("tests"), "def check(c):\n    assert c(1) == 1\ncheck(f)");
  Json ep = he;
  ep.update(
      Json{{"task_id", "HumanEval/1"}, {"atol", 0}, {"base_input", "[]"}, {"plus_input", "[]"}});
  EXPECT_EQ(code_job(CodeSet::evalplus, CodeAnswer::completion, ep, "\treturn x").at("code"),
            "def f(x):\n    \"\"\"d\"\"\"\n    return x");
  EXPECT_EQ(code_job(CodeSet::evalplus, CodeAnswer::reply, ep, "def f(x):\n\treturn x").at("code"),
            "def f(x):\n    return x");
  EXPECT_THROW(code_job(CodeSet::evalplus, CodeAnswer::reply, he, ""), Error);
  EXPECT_THROW(code_job(CodeSet::mbpp, CodeAnswer::program, he, ""), Error);
}

}  // namespace
}  // namespace narrow::evaluate
