#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "client/transport.h"

namespace narrow::client {
namespace {

namespace fs = std::filesystem;
using endpoint::FinishReason;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;
using namespace std::chrono_literals;

const fs::path kSource = NARROW_SOURCE_DIR;
const fs::path kTokenizer = kSource / "tests/goldens/stories260k/tokenizer.json";

// test_server.py in a child process, one for all tests.
class Served : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    int out[2];
    ASSERT_EQ(pipe(out), 0);
    child_ = fork();
    if (child_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      close(out[0]);
      const std::string script = kSource / "src/client/test_server.py";
      execlp("python3", "python3", script.c_str(), kTokenizer.c_str(), nullptr);
      _exit(127);
    }
    close(out[1]);
    std::string port;
    for (char c; read(out[0], &c, 1) == 1 && c != '\n';) port += c;
    close(out[0]);
    ASSERT_FALSE(port.empty()) << "the server needs python3";
    host_ = "http://127.0.0.1:" + port;
  }
  static void TearDownTestSuite() {
    kill(child_, SIGTERM);
    waitpid(child_, nullptr, 0);
  }

  static Options options(const std::string& mode) {
    Options options;
    options.url = host_ + "/" + mode;
    options.model = "tiny";
    options.concurrency = 4;
    options.timeout = 20s;
    options.retry.first = 10ms;
    options.retry.attempts = 3;
    return options;
  }
  static Client connect(const Options& of) {
    return Client(of, Vocabulary{text::Tokenizer::from_json(read_text(kTokenizer), ""),
                                 std::make_unique<text::ChatTemplate>(
                                     "{% for m in messages %}{{ m.content }}{% endfor %}")});
  }
  static Client connect(const std::string& mode) { return connect(options(mode)); }
  static Json seen(const std::string& mode) {
    Transport transport({});
    return parse_json(transport.send({host_ + "/" + mode + "/seen", "", 1 << 24, {}, {}}).body, "");
  }
  static endpoint::GenerateRequest request(std::vector<int32_t> prompt, int64_t max_tokens = 8) {
    endpoint::GenerateRequest of{"r", std::move(prompt), {}, {}};
    of.sampling.max_tokens = max_tokens;
    return of;
  }
  static std::string refusal(const std::string& mode, const Client::Needs& needs) {
    try {
      connect(mode).prepare(needs);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::refused) << error.what();
      return error.what();
    }
    return "";
  }

  static inline pid_t child_ = -1;
  static inline std::string host_;
};

const std::vector<int32_t> kPrompt = {400, 401, 402, 403, 404};
constexpr double kLogprobs[] = {-0.5, -0.75, -1.0, -1.25, -1.5};  // of kPrompt: 401 % 7 == 2, ...

TEST_F(Served, SendsTextsWhereNoIdsAreTaken) {
  Client client = connect("text_only");
  EXPECT_TRUE(client.prepare({.token_ids = true}).texts_only);
  const auto ids = client.tokenizer().encode("Once upon a time", {});
  const auto result = client.generate(request(ids)).get();
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.prompt_tokens, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(seen("text_only")["requests"].back()["body"]["prompt"], "Once upon a time");
  // Letter by letter: no text is read so.
  std::vector<int32_t> letters;
  for (const char* letter : {"n", "c", "e"}) letters.push_back(*client.tokenizer().id_of(letter));
  EXPECT_THAT(client.generate(request(letters)).get().error, HasSubstr("no text gives"));

  Client other = connect("text_miscounted");
  EXPECT_TRUE(other.prepare({.token_ids = true}).texts_only);
  EXPECT_THAT(other.generate(request(ids)).get().error, HasSubstr("the server counts"));
}

TEST_F(Served, GeneratesFromTokenIds) {
  Client client = connect("good");
  EXPECT_TRUE(client.prepare({.token_ids = true}).returns_ids);
  EXPECT_EQ(client.info().context_tokens, 512);
  EXPECT_THAT(client.info().backend, HasSubstr("tiny at http://127.0.0.1:"));
  std::vector<int32_t> streamed;
  std::string text;
  const auto result = client
                          .generate(request(kPrompt, 3),
                                    [&](int32_t id, std::string_view piece) {
                                      streamed.push_back(id);
                                      text += piece;
                                    })
                          .get();
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.token_ids, (std::vector<int32_t>{404, 403, 402}));
  EXPECT_EQ(streamed, result.token_ids);
  EXPECT_EQ(text, result.text);
  EXPECT_EQ(result.text, " ne Oncech");
  EXPECT_EQ(result.finish, FinishReason::length);
  EXPECT_EQ(result.prompt_tokens, 5);
  EXPECT_EQ(result.cached_tokens, 1);
  // Three tokens in two chunks.
  ASSERT_EQ(result.timings.tokens.size(), 3u);
  EXPECT_EQ(result.timings.tokens[0], result.timings.tokens[1]);
  EXPECT_GE(result.timings.tokens[0], result.timings.sent);
  EXPECT_GE(result.timings.finished, result.timings.tokens[2]);
}

TEST_F(Served, SaysWhatIsToBeGenerated) {
  Client client = connect("strict");
  EXPECT_FALSE(client.prepare({.token_ids = true}).returns_ids);
  auto of = request(kPrompt);
  of.sampling = {.max_tokens = 4,
                 .min_tokens = 2,
                 .temperature = 0.5,
                 .top_p = 0.9,
                 .top_k = 7,
                 .seed = 11,
                 .stop = {"x"},
                 .ignore_eos = true};
  const auto result = client.generate(of).get();
  EXPECT_EQ(result.error, "");
  // Ids of the text, since this server gives none.
  EXPECT_EQ(client.tokenizer().decode(result.token_ids), result.text);
  EXPECT_EQ(result.timings.tokens.size(), 4u);
  const Json body = seen("strict")["requests"].back()["body"];
  EXPECT_EQ(body, (Json{{"model", "tiny"},
                        {"prompt", kPrompt},
                        {"max_tokens", 4},
                        {"temperature", 0.5},
                        {"seed", 11},
                        {"top_p", 0.9},
                        {"top_k", 7},
                        {"stop", {"x"}},
                        {"min_tokens", 2},
                        {"ignore_eos", true},
                        {"stream", true},
                        {"stream_options", {{"include_usage", true}}}}));
}

TEST_F(Served, GeneratesFromTextAndChatsWithoutVocabulary) {
  Client client(options("listless"), std::nullopt);
  client.prepare({});
  EXPECT_EQ(client.generate_text(request({}), "one two three").get().text, "onetwothree");
  endpoint::ChatRequest chat{"c", Json::array({{{"role", "user"}, {"content", "noon"}}}), {}, {}};
  const auto result = client.chat(chat).get();
  EXPECT_EQ(result.text, "It is noon.");
  EXPECT_EQ(result.finish, FinishReason::stop);
  EXPECT_EQ(result.timings.tokens.size(), 5u);  // by usage; the first chunk has the role only
  EXPECT_EQ(client.chat_template(), nullptr);
  EXPECT_THAT([&] { client.tokenizer(); }, ThrowsMessage<Error>(HasSubstr("--tokenizer")));
}

TEST_F(Served, ScoresByEachWay) {
  for (const auto& [mode, way] :
       {std::pair{"good", ScoreWay::prompt_logprobs}, std::pair{"echo", ScoreWay::echo},
        std::pair{"echo_one", ScoreWay::echo_and_one}}) {
    Client client = connect(mode);
    EXPECT_EQ(client.prepare({.scores = true}).scoring, way);
    const auto result = client.score({"s", {400, 401}, {402, 403, 404}, 0}).get();
    ASSERT_EQ(result.error, "") << mode;
    ASSERT_EQ(result.tokens.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(result.tokens[i].id, kPrompt[i + 2]);
      EXPECT_DOUBLE_EQ(result.tokens[i].logprob, kLogprobs[i + 2]) << mode;
    }
    EXPECT_EQ(result.greedy, (std::vector<bool>{true, false, true})) << mode;
  }
  Client client = connect("good");
  client.prepare({.scores = true});
  const auto result = client.score({"s", {400}, {401}, 1}).get();
  ASSERT_EQ(result.error, "");
  EXPECT_EQ(result.tokens[0].top, (std::vector<std::pair<int32_t, double>>{{402, -0.125}}));
  EXPECT_THAT(client.score({"s", {}, {401}, 0}).get().error, HasSubstr("without one before it"));
}

TEST_F(Served, RefusesByNameWhatTheServerCannot) {
  const std::string blind = refusal("blind", {.scores = true});
  EXPECT_THAT(blind, HasSubstr("no log-probabilities of a prompt"));
  for (const char* tried : {"prompt_logprobs: ", "max_tokens 0: ", "max_tokens 1: "})
    EXPECT_THAT(blind, HasSubstr(tried));
  EXPECT_EQ(refusal("blind", {.token_ids = true}), "");
  EXPECT_THAT(refusal("shifted", {.scores = true}), HasSubstr("echoed tokens"));
  EXPECT_THAT(refusal("bos", {.token_ids = true}), HasSubstr("the server counts"));
  EXPECT_THAT(refusal("text_only", {.scores = true}), HasSubstr("as text only"));
  EXPECT_THAT(refusal("elsewhere", {}), HasSubstr("it has: other"));
  EXPECT_THAT(refusal("key", {}), HasSubstr("--api-key-env"));
  Options with_key = options("key");
  with_key.api_key = "secret";
  EXPECT_NO_THROW(connect(with_key).prepare({}));
  Options bad = options("good");
  for (const char* url :
       {"", "ftp://host", "http://", "host:80", "http://a b", "http://me:x@host"}) {
    bad.url = url;
    EXPECT_THROW(connect(bad), Error) << url;
  }
  bad = options("good");
  bad.api_key = "a\r\nX: y";
  EXPECT_THAT([&] { connect(bad); },
              ThrowsMessage<Error>(testing::AllOf(HasSubstr("character"), Not(HasSubstr("X: y")))));
  bad = options("good");
  bad.url = "http://127.0.0.1:9";
  EXPECT_THROW(connect(bad).prepare({}), Error);
}

TEST_F(Served, ReadsAnyFormOfAddress) {
  for (const char* end : {"", "/", "/v1", "/v1/", "/v1/completions", "/v1/chat/completions"}) {
    Options of = options("good");
    of.url += end;
    EXPECT_THAT(connect(of).info().backend, testing::EndsWith("/good/v1")) << end;
  }
}

TEST_F(Served, ComesBackWhenToldTo) {
  Client client = connect("busy");
  const auto start = endpoint::Clock::now();
  EXPECT_EQ(client.generate(request(kPrompt)).get().error, "");
  EXPECT_GE(endpoint::Clock::now() - start, 600ms);  // twice Retry-After
  EXPECT_EQ(seen("busy")["requests"].size(), 3u);

  const auto down = connect("down").generate(request(kPrompt)).get();
  EXPECT_EQ(down.finish, FinishReason::error);
  EXPECT_THAT(down.error, HasSubstr("503: out of order [31m (3 attempts)"));
  EXPECT_EQ(seen("down")["requests"].size(), 3u);

  EXPECT_THAT(connect("daily").generate(request(kPrompt)).get().error,
              HasSubstr("quota used up; it asks to wait 86400 s"));
  EXPECT_EQ(seen("daily")["requests"].size(), 1u);
}

TEST_F(Served, RepeatsAnAnswerThatWasCutOff) {
  EXPECT_EQ(connect("cut").generate(request(kPrompt)).get().timings.tokens.size(), 5u);
  EXPECT_EQ(seen("cut")["requests"].size(), 2u);
  EXPECT_THAT(connect("cut_always").generate(request(kPrompt)).get().error,
              HasSubstr("ends before the answer does (3 attempts)"));
  // What was shown cannot be taken back.
  int shown = 0;
  const auto result =
      connect("cut_always").generate(request(kPrompt), [&](int32_t, auto) { ++shown; }).get();
  EXPECT_EQ(result.finish, FinishReason::error);
  EXPECT_EQ(shown, 2);
}

TEST_F(Served, WithstandsHostileAnswers) {
  const auto error_of = [&](const char* mode) {
    Options of = options(mode);
    of.timeout = 1500ms;
    of.retry.attempts = 1;
    const auto result = connect(of).generate(request(kPrompt)).get();
    EXPECT_EQ(result.finish, FinishReason::error) << mode;
    return result.error;
  };
  EXPECT_THAT(error_of("huge"), HasSubstr("an event of the stream exceeds 1048576 bytes"));
  EXPECT_THAT(error_of("many"), HasSubstr("exceeds 1081344 bytes"));  // 1 MiB + 8 tokens
  EXPECT_THAT(error_of("slow"), HasSubstr("timed out"));
  EXPECT_THAT(error_of("nonsense"), HasSubstr("ends before the answer does"));
  EXPECT_THAT(error_of("redirect"), HasSubstr("302"));
  EXPECT_THAT(error_of("broken_stream"), HasSubstr("out of memory"));
  EXPECT_THAT(error_of("miscounted"), HasSubstr("at most 8 were asked for"));
}

TEST_F(Served, KeepsToItsConcurrencyAndRate) {
  {
    Client client = connect("gather");
    std::vector<std::future<endpoint::GenerateResult>> futures;
    for (int i = 0; i < 12; ++i) futures.push_back(client.generate(request(kPrompt)));
    for (auto& future : futures) EXPECT_EQ(future.get().error, "");
    EXPECT_EQ(seen("gather")["most"], 4);
  }
  Options of = options("good");
  of.requests_per_minute = 600;
  Client client = connect(of);
  const auto start = endpoint::Clock::now();
  std::vector<std::future<endpoint::GenerateResult>> futures;
  for (int i = 0; i < 5; ++i) futures.push_back(client.generate(request(kPrompt)));
  for (auto& future : futures) EXPECT_EQ(future.get().error, "");
  EXPECT_GE(endpoint::Clock::now() - start, 400ms);  // four gaps of 100 ms
}

TEST_F(Served, EndsWhatIsCancelled) {
  std::future<endpoint::GenerateResult> running, waiting, dropped;
  std::stop_source stop;
  {
    Options of = options("slow");
    of.concurrency = 1;
    Client client = connect(of);
    auto stoppable = request(kPrompt);
    stoppable.cancel = stop.get_token();
    dropped = client.generate(stoppable);
    stop.request_stop();
    EXPECT_EQ(dropped.get().finish, FinishReason::cancelled);
    running = client.generate(request(kPrompt));
    waiting = client.generate(request(kPrompt));
  }
  EXPECT_EQ(running.get().finish, FinishReason::cancelled);
  EXPECT_EQ(waiting.get().finish, FinishReason::cancelled);
}

TEST(Retry, WaitsLongerEachTimeAndNeverLessThanAsked) {
  const RetryPolicy policy;
  EXPECT_EQ(delay_after(1, policy, std::nullopt, 0.5), 500ms);
  EXPECT_EQ(delay_after(3, policy, std::nullopt, 0), 1000ms);
  EXPECT_EQ(delay_after(40, policy, std::nullopt, 0.5), 30s);
  EXPECT_GE(delay_after(1, policy, 7s, 0), 7s);
  EXPECT_EQ(parse_retry_after(" 7 \r\n", 0), 7s);
  EXPECT_EQ(parse_retry_after("0.25", 0), 250ms);
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40), 60s);
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400), 0s);
  for (const char* text : {"", "soon", "nan", "inf", "12 apples", "-"})
    EXPECT_EQ(parse_retry_after(text, 0), std::nullopt) << text;
  EXPECT_EQ(parse_retry_after("-5", 0), 0s);
  EXPECT_TRUE(may_be_repeated(429) && may_be_repeated(503));
  EXPECT_FALSE(may_be_repeated(400) || may_be_repeated(401) || may_be_repeated(404));
}

}  // namespace
}  // namespace narrow::client
