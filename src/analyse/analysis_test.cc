#include "analyse/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include "analyse/divergence.h"
#include "analyse/test_study.h"
#include "base/json.h"
#include "base/temporary_directory.h"
#include "store/store.h"

namespace narrow::analyse {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

template <class T>
const T& of(const std::vector<T>& list, const std::string& format) {
  for (const T& item : list)
    if (item.format == format) return item;
  throw std::out_of_range(format);
}

Options quick() {
  Options options;
  options.resamples = 1000;
  return options;
}

TEST(Analysis, SameRowsSameBits) {
  EXPECT_EQ(to_json(analyse(test::study(), quick())).dump(),
            to_json(analyse(test::study(), quick())).dump());
}

TEST(Analysis, CellsOfOneTaskArePooled) {
  const Analysis analysis = analyse(test::study(), quick());
  ASSERT_THAT(analysis.tasks, SizeIs(3));
  EXPECT_EQ(analysis.tasks[1].task, "mmlu");
  EXPECT_EQ(analysis.tasks[1].scores[0].count, 120);
  EXPECT_DOUBLE_EQ(analysis.tasks[1].chance, 0.25);
  EXPECT_EQ(analysis.tasks[2].chance, 0);
  EXPECT_EQ(analysis.tasks[2].scores[0].truncated, 3);
  // Baseline first, then the plan's order.
  EXPECT_EQ(analysis.formats[0].format, "bf16");
  EXPECT_EQ(analysis.formats[3].format, "w4a16-int");
}

TEST(Analysis, CountsFlipsBothWays) {
  auto cells = test::cells();
  const Analysis analysis = analyse(test::study(), quick());
  const Comparison& comparison = of(analysis.tasks[0].comparisons, "w4a16-awq");
  int64_t lost = 0, gained = 0;
  const EvalCell *base = nullptr, *variant = nullptr;
  const StudyRows rows = test::study();
  for (const EvalCell& cell : rows.evals) {
    if (cell.task != "arc_challenge") continue;
    if (cell.source.format == "bf16") base = &cell;
    if (cell.source.format == "w4a16-awq") variant = &cell;
  }
  for (size_t i = 0; i < base->items.size(); ++i) {
    const double a = base->items[i].metrics.at("acc_norm");
    const double b = variant->items[i].metrics.at("acc_norm");
    lost += a > b;
    gained += a < b;
  }
  EXPECT_EQ(comparison.lost, lost);
  EXPECT_EQ(comparison.gained, gained);
  EXPECT_DOUBLE_EQ(comparison.difference.estimate.value, (gained - lost) / 60.0);
  // Wrong to another wrong counts as a changed answer, so at least as many as flips.
  EXPECT_GE(comparison.answer_changed.value * 60 + 0.5, static_cast<double>(lost + gained));
  EXPECT_GE(comparison.p_holm, comparison.p);
  EXPECT_THAT(comparison.sources, SizeIs(2));
}

// A document number counts within its subtask, and the answer is that of the metric: the choice per
// character for acc_norm, the filter's extract for a generated one.
TEST(Analysis, AnswersAreThoseOfTheMetric) {
  std::vector<CellRows> cells;
  for (const bool base : {true, false}) {
    CellRows choices = test::cell("eval", base ? "bf16" : "w8a8-fp", "mmlu");
    for (const char* subtask : {"anatomy", "virology"})
      test::append(choices, {{"doc_id", 0},
                             {"subtask", subtask},
                             {"choices", {"a", "long answer"}},
                             {"loglikelihoods", {-1.0, base ? -9.0 : -12.0}},
                             {"answer", 0},
                             {"metrics", {{"acc", 1}, {"acc_norm", base ? 1 : 0}}}});
    cells.push_back(std::move(choices));
    CellRows generated = test::cell("eval", base ? "bf16" : "w8a8-fp", "gsm8k");
    for (int i = 0; i < 2; ++i)
      test::append(
          generated,
          {{"doc_id", i},
           {"answer", {{"strict-match", "7"}, {"flexible-extract", base ? "7" : "8"}}},
           {"metrics",
            {{"exact_match,strict-match", 1}, {"exact_match,flexible-extract", base ? 1 : 0}}}});
    cells.push_back(std::move(generated));
  }
  const Analysis analysis = analyse(parse_study(nullptr, nullptr, cells), quick());
  EXPECT_EQ(analysis.tasks[0].scores[0].count, 2);
  EXPECT_EQ(analysis.tasks[0].metric, "acc_norm");
  EXPECT_EQ(analysis.tasks[0].comparisons[0].lost, 2);
  EXPECT_EQ(analysis.tasks[0].comparisons[0].answer_changed.value, 1);
  EXPECT_EQ(analysis.tasks[1].comparisons[0].answer_changed.value, 0);
}

TEST(Analysis, FiveFlipsCannotDecide) {
  std::vector<CellRows> cells;
  for (const char* format : {"bf16", "w8a8-fp"}) {
    CellRows rows = test::cell("eval", format, "arc_challenge");
    for (int i = 0; i < 40; ++i) {
      const bool right = i < 30 && !(std::string(format) == "w8a8-fp" && i < 5);
      test::append(rows, {{"doc_id", i}, {"answer", right}, {"metrics", {{"acc", right ? 1 : 0}}}});
    }
    cells.push_back(std::move(rows));
  }
  const Analysis analysis = analyse(parse_study(nullptr, nullptr, cells), quick());
  const Comparison& comparison = analysis.tasks[0].comparisons[0];
  EXPECT_EQ(comparison.lost, 5);
  EXPECT_FALSE(comparison.decidable);
  EXPECT_EQ(comparison.claim, Claim::cannot_tell);
}

TEST(Analysis, OtherPromptsAreOtherQuestions) {
  auto cells = test::cells();
  for (CellRows& rows : cells)
    if (rows.cell.kind == "eval" && rows.cell.format == "w8a8-fp" &&
        rows.cell.name == "arc_challenge")
      for (int i = 0; i < 10; ++i) rows.rows[static_cast<size_t>(i)].data["prompt_hash"] = "other";
  const Analysis analysis = analyse(parse_study(test::plan({}), nullptr, cells), quick());
  const Comparison& comparison = of(analysis.tasks[0].comparisons, "w8a8-fp");
  EXPECT_EQ(comparison.pairs, 50);
  EXPECT_EQ(comparison.missing, 10);
  EXPECT_EQ(comparison.claim, Claim::cannot_tell);
  EXPECT_FALSE(of(analysis.averages, "w8a8-fp").complete);
  EXPECT_EQ(of(analysis.formats, "w8a8-fp").loss, LossVerdict::cannot_tell);
  EXPECT_THAT(analysis.warnings, Contains(HasSubstr("10 questions are in only one")));
}

// Table 5 of the study, Llama-3.1-8B on one A6000 and 70B on fewer of them: latencies and prices
// in, its CR and queries per dollar out.
TEST(Analysis, ReproducesTheStudysCostReduction) {
  struct Row {
    const char* format;
    double price;
    double latency[7];
  };
  const auto analyse_rows = [](const std::vector<Row>& table) {
    static constexpr const char* kScenarios[] = {"a", "b", "c", "d", "e", "f", "g"};
    std::vector<CellRows> cells;
    for (const Row& row : table) {
      CellRows environment = test::cell("environment", row.format, "");
      test::append(environment, {{"hardware", "A6000"}, {"price_per_hour", row.price}});
      cells.push_back(std::move(environment));
      for (int i = 0; i < 7; ++i) {
        CellRows load = test::cell("load", row.format, std::string(kScenarios[i]) + "/sync");
        test::append(load, {{"e2e_s", row.latency[i]}, {"status", "ok"}});
        cells.push_back(std::move(load));
      }
    }
    return analyse(parse_study(nullptr, nullptr, cells), quick());
  };
  const Analysis small = analyse_rows({{"bf16", 0.8, {24.5, 3.2, 25.0, 3.3, 3.1, 6.2, 13.4}},
                                       {"w8a8-int", 0.8, {15.9, 2.1, 16.3, 2.1, 2.0, 4.0, 8.9}},
                                       {"w4a16-int", 0.8, {9.7, 1.4, 10.1, 1.4, 1.3, 2.5, 6.1}}});
  // Printed: 1.54 and 2.39, from latencies before rounding.
  EXPECT_NEAR(of(small.costs, "w8a8-int").cost_reduction.value, 1.54, 0.02);
  EXPECT_NEAR(of(small.costs, "w4a16-int").cost_reduction.value, 2.39, 0.02);
  EXPECT_NEAR(*small.scenarios[0].queries_per_dollar, 183, 1);
  const Analysis large =
      analyse_rows({{"bf16", 3.2, {61.7, 6.6, 62.6, 8.1, 8.0, 15.8, 32.6}},
                    {"w8a8-int", 1.6, {63.4, 7.1, 63.8, 8.4, 8.0, 16.2, 34.0}},
                    {"w4a16-int", 1.6, {39.2, 5.0, 40.4, 5.8, 5.1, 10.2, 23.5}}});
  EXPECT_NEAR(of(large.costs, "w8a8-int").cost_reduction.value, 1.94, 0.02);
  EXPECT_NEAR(of(large.costs, "w4a16-int").cost_reduction.value, 2.96, 0.02);
}

TEST(Analysis, ThroughputCountsFinishedRequestsOverTheirSpan) {
  std::vector<CellRows> cells;
  CellRows load = test::cell("load", "bf16", "chat/async");
  const auto request = [&](double sent, double e2e, const char* status, bool warmup) {
    test::append(load, {{"intended_s", sent},
                        {"e2e_s", e2e},
                        {"status", status},
                        {"warmup", warmup},
                        {"output_tokens", 10}});
  };
  request(0, 1, "ok", true);
  request(1, 2, "ok", false);
  request(1, 4, "ok", false);
  request(1, 9, "error", false);
  cells.push_back(std::move(load));
  const Analysis analysis = analyse(parse_study(nullptr, nullptr, cells), quick());
  ASSERT_THAT(analysis.scenarios, SizeIs(1));
  EXPECT_DOUBLE_EQ(analysis.scenarios[0].queries_per_second, 0.5);
  EXPECT_DOUBLE_EQ(analysis.scenarios[0].output_tokens_per_second, 5);
  EXPECT_EQ(analysis.scenarios[0].failed, 1);
  EXPECT_EQ(analysis.scenarios[0].warmup, 1);
  EXPECT_THAT(analysis.warnings, Contains(HasSubstr("1 of 3 requests failed")));
}

TEST(Analysis, TailPercentilesNeedRequests) {
  test::Shape shape;
  shape.requests = 120;
  const Analysis analysis = analyse(test::study(shape), quick());
  const Latency& latency = analysis.scenarios[0].e2e;
  EXPECT_TRUE(latency.p50_interval);
  EXPECT_TRUE(latency.p90);
  EXPECT_FALSE(latency.p99);
  EXPECT_FALSE(analyse(test::study(), quick()).scenarios[0].e2e.p50_interval);
}

TEST(Recommendation, SaysCannotTellOnSmallSamples) {
  const Analysis analysis = analyse(test::study(), [] {
    Options options = quick();
    options.max_loss = 0.001;
    return options;
  }());
  const Recommendation& sync = analysis.recommendations[0];
  EXPECT_EQ(sync.format, "w4a16-int");
  EXPECT_FALSE(sync.supported);
  EXPECT_THAT(sync.headline, HasSubstr("cannot tell"));
  for (const Recommendation& item : analysis.recommendations)
    for (const std::string& reason : item.reasons) EXPECT_THAT(reason, Not(HasSubstr("same")));
  EXPECT_THAT(sync.reasons, Contains(HasSubstr("fully support is bf16")));
}

TEST(Recommendation, PrefersAGainThatIsShown) {
  test::Shape shape;
  shape.questions = 4000;
  shape.requests = 6;
  Options options = quick();
  options.resamples = 200;
  options.max_loss = 0.025;  // one format is shown to lose less, a cheaper one is open
  const Analysis analysis = analyse(test::study(shape), options);
  EXPECT_EQ(of(analysis.formats, "w4a16-int").loss, LossVerdict::cannot_tell);
  const Recommendation& sync = analysis.recommendations[0];
  EXPECT_EQ(sync.format, "w8a8-int");
  EXPECT_TRUE(sync.supported) << sync.headline;
  EXPECT_THAT(sync.headline, HasSubstr("loss below 2.5 %"));
  EXPECT_THAT(sync.reasons, Contains(AllOf(HasSubstr("w4a16-int"), HasSubstr("cannot tell"))));
  // A tighter limit excludes the cheaper one, a looser lets it in.
  options.max_loss = 0.005;
  const Analysis tight = analyse(test::study(shape), options);
  EXPECT_EQ(of(tight.formats, "w4a16-int").loss, LossVerdict::exceeds);
  EXPECT_THAT(tight.recommendations[0].reasons, Contains(HasSubstr("above 0.5 %. It is out.")));
  options.max_loss = 0.2;
  EXPECT_EQ(analyse(test::study(shape), options).recommendations[0].format, "w4a16-int");
}

TEST(Recommendation, LimitsOnLatencyExclude) {
  Options options = quick();
  options.slo.itl_s = 0.006;
  const Analysis analysis = analyse(test::study(), options);
  EXPECT_EQ(analysis.recommendations[0].format, "w4a16-int");
  EXPECT_THAT(analysis.recommendations[0].reasons, Contains(HasSubstr("w8a8-int is out")));
  options.slo.itl_s = 0.0001;
  EXPECT_FALSE(analyse(test::study(), options).recommendations[0].format);
}

TEST(Recommendation, WithoutLoadThereIsNone) {
  StudyRows rows = test::study();
  rows.loads.clear();
  const Analysis analysis = analyse(rows, quick());
  for (const Recommendation& item : analysis.recommendations) {
    EXPECT_FALSE(item.format);
    EXPECT_THAT(item.headline, HasSubstr("Cannot tell"));
  }
}

TEST(Recommendation, SlowQuantizedFormatsLeaveTheBaseline) {
  StudyRows rows = test::study();
  for (LoadCell& cell : rows.loads)
    if (cell.source.format != "bf16")
      for (Request& request : cell.requests) request.e2e_s *= 5;
  for (const Recommendation& item : analyse(rows, quick()).recommendations) {
    EXPECT_EQ(item.format, "bf16");
    EXPECT_TRUE(item.supported);
  }
}

TEST(Recommendation, TrafficWeighsScenarios) {
  Options options = quick();
  options.traffic.scenarios = {{"chat", 1.0}};
  const Analysis chat = analyse(test::study(), options);
  EXPECT_EQ(of(chat.costs, "w8a8-fp").scenarios, 1);
  options.traffic.scenarios = {{"unknown", 1.0}};
  EXPECT_THROW(analyse(test::study(), options), Error);
}

TEST(Rows, AnEncodersScores) {
  const auto texts = [](const Json& second) {
    CellRows baseline = test::cell("eval", "bf16", "t"),
             rows = test::cell("similarity", "w8", "text");
    for (const Json& scores : {Json{{"sts", 0.5}, {"bertscore_f1", 0.7}}, second}) {
      Json row{{"prompt_id", "p"}, {"prompt", "q"}, {"base_text", "a"}, {"text", "b"},
               {"rouge1", 0.1},    {"rouge2", 0.1}, {"rougeL", 0.1},    {"first_divergence", 1},
               {"base_tokens", 2}, {"tokens", 2}};
      row.update(scores);
      test::append(rows, row);
    }
    return analyse_texts(parse_study(nullptr, nullptr, {baseline, rows}), {"w8"}, quick());
  };
  const auto both = texts({{"sts", 0.7}, {"bertscore_f1", 0.8}});
  ASSERT_THAT(both, SizeIs(1));
  EXPECT_DOUBLE_EQ(both[0].sts->value, 0.6);
  EXPECT_DOUBLE_EQ(both[0].bertscore->value, 0.75);
  // A mean over some of the prompts would not be comparable.
  EXPECT_FALSE(texts(Json::object())[0].sts);
  EXPECT_THROW(texts({{"sts", "x"}}), Error);
}

TEST(Rows, RefusesWhatDoesNotFollowTheFormat) {
  const auto refused = [](const std::string& kind, const std::string& name, const Json& data) {
    CellRows rows = test::cell(kind, "bf16", name);
    test::append(rows, data);
    try {
      parse_study(nullptr, nullptr, {rows});
    } catch (const Error& error) {
      return error.kind() == Error::Kind::refused;
    }
    return false;
  };
  EXPECT_TRUE(refused("eval", "t", {{"doc_id", 1}}));
  EXPECT_TRUE(refused("eval", "t", {{"doc_id", "x"}, {"metrics", {{"acc", 1}}}}));
  EXPECT_TRUE(refused("eval", "t", {{"doc_id", 1}, {"metrics", {{"acc", 2}}}}));
  EXPECT_TRUE(refused("eval", "t", {{"doc_id", 1}, {"metrics", {{"acc", "1"}}}}));
  EXPECT_TRUE(refused("eval", "t", Json::array()));
  EXPECT_TRUE(refused("similarity", "kl/x",
                      {{"kl", {0.1}}, {"top1_agree", {1, 1}}, {"nll_base", {1}}, {"nll", {1}}}));
  EXPECT_TRUE(refused("similarity", "kl/x",
                      {{"kl", {nullptr}}, {"top1_agree", {1}}, {"nll_base", {1}}, {"nll", {1}}}));
  EXPECT_TRUE(refused("load", "chat", {{"status", "ok"}, {"e2e_s", 1}}));
  EXPECT_TRUE(refused("load", "chat/sync", {{"status", "ok"}, {"e2e_s", 0}}));
  EXPECT_TRUE(
      refused("load", "chat/sync", {{"status", "ok"}, {"e2e_s", 1}, {"prompt_tokens", -1}}));
  EXPECT_TRUE(refused("environment", "", {{"price_per_hour", -1}}));
  EXPECT_TRUE(refused("quantize", "", {{"layers", {{{"relative_error", 1}}}}}));
}

TEST(Rows, AStudyWithoutRowsIsRefused) {
  EXPECT_THROW(analyse(parse_study(nullptr, nullptr, {}), quick()), Error);
  Options options = quick();
  options.baseline = "other";
  EXPECT_THROW(analyse(test::study(), options), Error);
}

// What a backend says of a format stands above the figures, once, where the format was measured.
TEST(Analysis, NotesOfTheBackendAreWarnings) {
  auto cells = test::cells();
  for (int machine = 0; machine < 2; ++machine) {
    CellRows environment = test::cell("environment", "", std::to_string(machine));
    test::append(environment, {{"backend", "cuda: made up"},
                               {"format_notes",
                                {{"w8a8-fp", "Activations were not quantized."},
                                 {"w2a2-none", "Nobody measured this."}}}});
    cells.push_back(environment);
  }
  const Analysis analysis = analyse(parse_study(test::plan({}), nullptr, cells), quick());
  EXPECT_EQ(std::count(analysis.warnings.begin(), analysis.warnings.end(),
                       "w8a8-fp: Activations were not quantized."),
            1);
  EXPECT_THAT(analysis.warnings, Not(Contains(HasSubstr("Nobody"))));
}

// The same cell run again under another key: the later finished one counts, and it is said.
TEST(Rows, TheLastFinishedRunCounts) {
  auto cells = test::cells();
  CellRows again = test::cell("eval", "w8a8-fp", "arc_challenge");
  again.cell.key["version"] = "2";
  for (int i = 0; i < 60; ++i)
    test::append(
        again, {{"doc_id", i}, {"prompt_hash", std::to_string(i)}, {"metrics", {{"acc_norm", 0}}}});
  cells.push_back(again);
  CellRows unfinished = again;
  unfinished.cell.key["version"] = "3";
  unfinished.finished = false;
  unfinished.rows.resize(1);
  cells.push_back(unfinished);
  const Analysis analysis = analyse(parse_study(test::plan({}), nullptr, cells), quick());
  EXPECT_EQ(of(analysis.tasks[0].comparisons, "w8a8-fp").pairs, 60);
  EXPECT_EQ(of(analysis.tasks[0].comparisons, "w8a8-fp").accuracy_b, 0);
  EXPECT_THAT(analysis.warnings, Contains(HasSubstr("2 cells of earlier runs")));
}

// Cells cut short, empty or with one row must not break anything downstream.
TEST(Rows, PartialStudiesAreAnalysed) {
  for (const size_t keep : {0, 1, 2}) {
    auto cells = test::cells();
    for (CellRows& rows : cells) {
      rows.finished = false;
      if (rows.rows.size() > keep) rows.rows.resize(keep);
    }
    const Analysis analysis = analyse(parse_study(test::plan({}), nullptr, cells), quick());
    EXPECT_THAT(analysis.recommendations, SizeIs(3));
  }
}

TEST(Rows, LoadsWhatTheStoreHolds) {
  const TemporaryDirectory directory;
  store::Store store(directory.path() / "study.db");
  store.set_fact("plan", test::plan({}));
  store.set_fact("model", {{"name", "Test-Model-1B"}, {"family", "llama"}});
  for (const CellRows& rows : test::cells()) {
    store.add_cell(rows.cell);
    for (const store::Row& row : rows.rows) store.append(rows.cell, row);
    store.finish_cell(rows.cell);
  }
  store.flush();
  EXPECT_EQ(to_json(analyse(load_study(store), quick())).dump(),
            to_json(analyse(test::study(), quick())).dump());
}

}  // namespace
}  // namespace narrow::analyse
