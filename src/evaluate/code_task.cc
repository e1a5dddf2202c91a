#include "evaluate/code_task.h"

#include <cassert>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/hash.h"
#include "base/thread_pool.h"

namespace narrow::evaluate {
namespace {

// The harness's code_eval gives a program 3 seconds by the clock. Here it may compute for as long,
// and the clock has five times that, so that a busy machine changes no verdict.
constexpr int64_t kHarnessSeconds = 3;
constexpr int64_t kClock = 5;
// The bounds around the oracle's own: its least limit for an input, its most for both parts.
constexpr int64_t kEvalplusLeastMs = 4000;
constexpr int64_t kEvalplusMostMs = 2 * 61'000 + 300'000;  // with outputs that are made again
constexpr int64_t kReferenceMs = 600'000;
constexpr int64_t kStartMs = 10'000;                // interpreters and data on a busy machine
constexpr int64_t kMemoryBytes = int64_t{4} << 30;  // EvalPlus's
// The share of its limit that a program must have computed for its timeout to be its own.
constexpr double kOwnTime = 0.9;

std::string field(const Json& document, const char* name) {
  return json_get<std::string>(document, name, "code document");
}

std::string stripped(const std::string& text) {
  const char* blanks = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::string with_spaces(const std::string& text) {
  std::string spaced;
  for (const char c : text) c == '\t' ? spaced += "    " : spaced += c;
  return spaced;
}

std::string canonical(const Json& document) {
  return field(document, "prompt") + field(document, "canonical_solution");
}

Json evalplus_job(const char* kind, const Json& document, const std::string& code) {
  return {{"kind", kind},
          {"task", field(document, "task_id")},
          {"entry", field(document, "entry_point")},
          {"code", code},
          {"base_input", field(document, "base_input")},
          {"plus_input", field(document, "plus_input")}};
}

sandbox::Limits limits_of(const Json& job) {
  const std::string& kind = job.at("kind").get_ref<const std::string&>();
  if (kind == "tests")
    return {.wall_ms = kClock * kHarnessSeconds * 1000 + kStartMs,
            .cpu_s = kHarnessSeconds,
            .memory_bytes = kMemoryBytes};
  const int64_t ms = (kind == "reference" ? kReferenceMs : kEvalplusMostMs) + kStartMs;
  return {.wall_ms = ms, .cpu_s = ms / 1000, .memory_bytes = kMemoryBytes};
}

}  // namespace

Json code_job(CodeSet set, CodeAnswer answer, const Json& document, const std::string& response) {
  if (set == CodeSet::evalplus) {
    std::string code = response;
    if (answer != CodeAnswer::program) code = with_spaces(code);
    if (answer == CodeAnswer::completion) code = stripped(field(document, "prompt")) + "\n" + code;
    Json job = evalplus_job("evalplus", document, code);
    job["tolerance"] = json_get<double>(document, "atol", "code document");
    job["canonical"] = canonical(document);
    job["extract"] = answer != CodeAnswer::program;
    return job;
  }
  Json job{{"kind", "tests"}, {"setup", ""}, {"seconds", kClock * kHarnessSeconds}};
  if (set == CodeSet::humaneval) {
    const std::string prompt = field(document, "prompt"), entry = field(document, "entry_point");
    job["code"] = answer == CodeAnswer::program ? response : prompt + response;
    // The functions that a prompt defines beside the asked one are the tests' own.
    job["names"] = prompt + "\n    pass\n";
    job["tests"] = field(document, "test") + "\ncheck(" + entry + ")";
    job["entry"] = entry;
    job["canonical"] = canonical(document);
  } else {
    std::string tests;
    for (const auto& test :
         json_get<std::vector<std::string>>(document, "test_list", "code document"))
      tests += test + "\n";
    job["code"] = response;
    job["names"] = "";
    job["tests"] = tests;
    job["entry"] = "";
    job["canonical"] = field(document, "code");
  }
  return job;
}

CodeJudge::CodeJudge() : CodeJudge(sandbox::Jail::probe()) {}
CodeJudge::CodeJudge(sandbox::Jail jail)
    : jail_(std::move(jail)), places_(std::max(1u, std::thread::hardware_concurrency())) {}

sandbox::Judged CodeJudge::run(const Json& job, bool alone) {
  if (alone) {
    const std::unique_lock lock(alone_);
    return jail_.judge(job, limits_of(job));
  }
  places_.acquire();
  const auto leave = [this](void*) { places_.release(); };
  const std::unique_ptr<void, decltype(leave)> place(this, leave);
  const std::shared_lock lock(alone_);
  return jail_.judge(job, limits_of(job));
}

Json CodeJudge::expected(const Json& job) {
  const std::string key = sha256_hex(to_line(job));
  std::promise<Json> promise;
  std::shared_future<Json> future;
  bool mine = false;
  {
    const std::lock_guard lock(mutex_);
    auto [found, added] = references_.try_emplace(key);
    if (added) found->second = promise.get_future().share();
    future = found->second;
    mine = added;
  }
  if (mine) {
    try {
      Json verdict = run(job, /*alone=*/false).verdict;
      if (verdict.at("status") != "pass")
        throw Error::failed(
            "the canonical solution does not run: " + verdict.at("detail").get<std::string>(),
            job.at("task").get<std::string>());
      promise.set_value(std::move(verdict["expected"]));
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  }
  return future.get();
}

CodeVerdict CodeJudge::judge(CodeSet set, CodeAnswer answer, const Json& document,
                             const std::string& response) {
  Json job = code_job(set, answer, document, response);
  int64_t limit_ms = kHarnessSeconds * 1000;
  if (set == CodeSet::evalplus) {
    limit_ms = kEvalplusLeastMs;
    job["expected"] = expected(evalplus_job("reference", document, canonical(document)));
  }
  sandbox::Judged judged = run(job, /*alone=*/false);
  if (judged.verdict.at("status") == "timeout" &&
      static_cast<double>(judged.cpu_ms) < kOwnTime * static_cast<double>(limit_ms))
    judged = run(job, /*alone=*/true);
  const Json& said = judged.verdict;
  CodeVerdict verdict;
  verdict.status = said.at("status").get<std::string>();
  verdict.detail = said.value("detail", "");
  // The kernel ended it at its limit; the oracle saw only that it was gone.
  if (set != CodeSet::evalplus && verdict.status == "fail" &&
      static_cast<double>(judged.cpu_ms) >= kOwnTime * static_cast<double>(limit_ms))
    verdict.status = "timeout";
  verdict.program = said.value("code", job.at("code").get<std::string>());
  verdict.plus = verdict.status == "pass";
  verdict.base = set == CodeSet::evalplus ? said.value("base", "fail") == "pass" : verdict.plus;
  return verdict;
}

std::vector<CodeVerdict> CodeJudge::judge_all(CodeSet set, CodeAnswer answer,
                                              std::span<const Question> questions) {
  std::vector<CodeVerdict> verdicts(questions.size());
  ThreadPool pool;
  pool.parallel_for(static_cast<int64_t>(questions.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      verdicts[i] = judge(set, answer, *questions[i].document, *questions[i].response);
  });
  return verdicts;
}

double pass_at_k(int64_t n, int64_t c, int64_t k) {
  assert(1 <= k && k <= n && 0 <= c && c <= n);
  double fail = 1;
  if (n - c < k) return 1;
  for (int64_t i = n - c + 1; i <= n; ++i)
    fail *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - fail;
}

}  // namespace narrow::evaluate
