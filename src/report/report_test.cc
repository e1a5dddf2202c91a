#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "analyse/test_study.h"
#include "base/file.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using testing::HasSubstr;
using testing::Not;

const Analysis& made_up() {
  static const Analysis analysis = analyse::analyse(analyse::test::study());
  return analysis;
}

TEST(Report, HasEveryPart) {
  const std::string page = html(made_up());
  // For looking at it: NARROW_REPORT_OUT=FILE report_test.
  if (const char* path = std::getenv("NARROW_REPORT_OUT")) write_text(path, page);
  for (const char* part : {"id=\"formats\"", "id=\"accuracy\"", "id=\"cost\"", "id=\"similarity\"",
                           "id=\"quantization\"", "id=\"provenance\"", "id=\"terms\"",
                           "data-plot=\"pareto-sync\"", "data-plot=\"layers\""})
    EXPECT_THAT(page, HasSubstr(part));
}

}  // namespace
}  // namespace narrow::report
