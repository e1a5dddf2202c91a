// What a run does with a model whose numbers are broken.
#include "evaluate/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace narrow::evaluate {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// Scores every token with the same log-probability.
class FlatModel : public endpoint::Endpoint {
 public:
  explicit FlatModel(double logprob) : logprob_(logprob) { info_.context_tokens = 512; }
  const endpoint::Info& info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override { return tokenizer_; }
  const text::ChatTemplate* chat_template() const override { return nullptr; }
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest,
                                                 endpoint::TokenSink) override {
    throw Error::refused("not asked for");
  }
  std::future<endpoint::GenerateResult> chat(endpoint::ChatRequest, endpoint::TokenSink) override {
    throw Error::refused("not asked for");
  }
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override {
    endpoint::ScoreResult result;
    for (const int32_t id : request.continuation) {
      result.tokens.push_back({id, logprob_, {}});
      result.greedy.push_back(false);
    }
    std::promise<endpoint::ScoreResult> promise;
    promise.set_value(std::move(result));
    return promise.get_future();
  }

 private:
  const double logprob_;
  endpoint::Info info_;
  const text::Tokenizer tokenizer_ = text::Tokenizer::from_json(
      read_text(NARROW_SOURCE_DIR "/tests/goldens/stories260k/tokenizer.json"), "");
};

TEST(Run, ALikelihoodThatIsNoNumberIsAnErrorOfItsDocument) {
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  write_text(folder / "rows.jsonl", "{\"q\": \"a\"}\n");
  write_text(folder / "t.yaml",
             "name: t\nversion: 1\nkind: choice\ndata: {test: [rows.jsonl]}\nquestion: '{{q}}'\n"
             "choices: \"{{['one day', 'two days']}}\"\ngold: '0'\nmetrics: [acc]\n");
  const Task task = load_task((folder / "t.yaml").string(), folder);
  std::vector<Json> rows;
  const auto ask = [&](double logprob) {
    FlatModel model(logprob);
    run(task, model, {}, {}, [&](int64_t, Json row) { rows.push_back(std::move(row)); });
  };
  ask(-1);
  EXPECT_EQ(rows.size(), 1u);
  for (const double broken : {double{NAN}, -double{INFINITY}})
    EXPECT_THAT([&] { ask(broken); }, ThrowsMessage<Error>(HasSubstr("t, document 0")));
  EXPECT_EQ(rows.size(), 1u);
}

}  // namespace
}  // namespace narrow::evaluate
