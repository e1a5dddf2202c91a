// Real models on the GPU against transformers (tests/goldens/logits/README.md), which computes in
// float32 there: log-probabilities within what transformers' own bfloat16 differs by, greedy text
// equal up to near ties, each of which is printed.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/engine.h"
#include "logits_gap.h"

namespace narrow {
namespace {

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/logits/";

using Rows = std::vector<Json>;

Rows read(const std::string& golden) {
  Rows rows;
  for_each_json_line(kGoldens + golden,
                     [&](Json&& row, int64_t) { rows.push_back(std::move(row)); });
  return rows;
}

template <class T>
std::vector<T> numbers(const Json& row, const char* name) {
  return row[name].get<std::vector<T>>();
}

// Where two texts part; their length where they do not.
size_t parting(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                             a.begin());
}

// What transformers' bfloat16 differs by from its float32.
struct OwnGap {
  double largest = 0, mean = 0;
  double widest_tie = 0;  // between the two likeliest tokens, where its greedy texts part
};
OwnGap own_gap(const std::string& name) {
  const Rows wide = read(name + "-float32.jsonl");
  const Rows narrow = read(name + "-bfloat16.jsonl");
  OwnGap gap;
  int64_t count = 0;
  for (size_t i = 0; i < wide.size(); ++i) {
    const auto a = numbers<double>(wide[i], "next_token_logprobs");
    const auto b = numbers<double>(narrow.at(i), "next_token_logprobs");
    for (size_t j = 0; j < a.size(); ++j) {
      gap.largest = std::max(gap.largest, std::fabs(a[j] - b.at(j)));
      gap.mean += std::fabs(a[j] - b.at(j));
    }
    count += static_cast<int64_t>(a.size());
    const auto text = numbers<int32_t>(wide[i], "greedy_ids");
    const size_t at = parting(text, numbers<int32_t>(narrow[i], "greedy_ids"));
    if (at < text.size())
      gap.widest_tie =
          std::max(gap.widest_tie, numbers<double>(wide[i], "greedy_top1_minus_top2").at(at));
  }
  gap.mean /= static_cast<double>(count);
  return gap;
}

// `own_name`: the model whose two goldens say how much bfloat16 may differ by.
void compare(const std::string& model, const std::string& name, const std::string& own_name) {
  const OwnGap own = own_gap(own_name);
  const std::string golden = name + "-float32.jsonl";
  const Gap gap = logits_gap(model, "cuda", kGoldens + golden);
  EXPECT_GT(gap.count, 100);
  EXPECT_LT(gap.largest, 2 * own.largest);
  EXPECT_LT(gap.mean(), own.mean);

  engine::Options options;
  options.backend = "cuda";
  engine::Engine engine(model, options);
  const Rows rows = read(golden);
  std::vector<std::future<endpoint::GenerateResult>> results;
  for (const Json& row : rows) {
    endpoint::GenerateRequest request;
    request.prompt = numbers<int32_t>(row, "token_ids");
    request.sampling.max_tokens = static_cast<int64_t>(numbers<int32_t>(row, "greedy_ids").size());
    request.sampling.ignore_eos = true;
    results.push_back(engine.generate(std::move(request)));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto expected = numbers<int32_t>(rows[i], "greedy_ids");
    const endpoint::GenerateResult got = results[i].get();
    ASSERT_EQ(got.token_ids.size(), expected.size()) << got.error;
    const size_t at = parting(got.token_ids, expected);
    if (at == expected.size()) {
      std::printf("prompt %zu: %zu tokens, all equal\n", i, at);
      continue;
    }
    const double tie = numbers<double>(rows[i], "greedy_top1_minus_top2").at(at);
    std::printf("prompt %zu: parts at token %zu, %d for %d, logits %.4f apart\n", i, at,
                got.token_ids[at], expected[at], tie);
    EXPECT_LT(tie, 2 * own.widest_tie) << "no near tie";
  }
}

const std::string kModels = std::string(NARROW_DATA_DIR) + "/models/";

// Its weights are float32: there is no golden of it in bfloat16.
TEST(GoldensOnGpu, Stories260K) {
  compare(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k", "stories260K",
          "SmolLM2-135M-Instruct");
}
TEST(GoldensOnGpu, SmolLM2) {
  compare(kModels + "SmolLM2-135M-Instruct.gguf", "SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct");
}
TEST(GoldensOnGpu, Qwen25Coder) {
  const std::string model = kModels + "Qwen2.5-Coder-0.5B-Instruct.gguf";
  ASSERT_TRUE(std::filesystem::exists(model))
      << model << " is not there: scripts/fetch_model.py qwen2.5-coder fetches it";
  compare(model, "Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-0.5B-Instruct");
}

}  // namespace
}  // namespace narrow
