// Code benchmarks: from a document and a response to a verdict that the oracle spoke outside of the
// program's jail (sandbox/jail.h).
//
// HumanEval and MBPP as lm-evaluation-harness 0.4.13 judges them (tasks humaneval 1, mbpp 1; the
// test code as it is, 3 seconds of computing for all of it); HumanEval+ and MBPP+ as EvalPlus does
// (evalplus 0.3.1: outputs compared with those of the canonical solution, its extraction of code,
// tolerances and special oracles; 4 seconds or four times the reference's time for each input, 60
// for all).
#pragma once

#include <future>
#include <map>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "sandbox/jail.h"

namespace narrow::evaluate {

enum class CodeSet { humaneval, mbpp, evalplus };

// How a response of EvalPlus's becomes a program.
enum class CodeAnswer {
  program,     // it is one, run as it is
  reply,       // of a chat model, behind the opening of a code block: the code in it
  completion,  // of a base model: goes on from the prompt
};

struct CodeVerdict {
  bool base = false;    // the data set's own tests
  bool plus = false;    // EvalPlus: these and the extra ones; otherwise as base
  std::string status;   // "pass", "fail", "timeout"
  std::string detail;   // why not, for reading
  std::string program;  // what ran
};

// What the oracle is given about a HumanEval or MBPP response, or (without its "expected") an
// EvalPlus one. Throws Error::refused for a document without the fields.
Json code_job(CodeSet set, CodeAnswer answer, const Json& document, const std::string& response);

// Judges responses. Keeps the canonical solutions' outputs, computed once a document. Threads may
// call it side by side.
class CodeJudge {
 public:
  // Finds the jail; throws Error::refused where there is none.
  CodeJudge();
  explicit CodeJudge(sandbox::Jail jail);

  const sandbox::Jail& jail() const { return jail_; }

  // A timeout of a program that did not use its time (a busy machine) is judged again, alone.
  // Throws Error::failed when the canonical solution itself cannot be run.
  CodeVerdict judge(CodeSet set, CodeAnswer answer, const Json& document,
                    const std::string& response);

  struct Question {
    const Json* document;
    const std::string* response;
  };
  // The same for many, on all processors; in their order.
  std::vector<CodeVerdict> judge_all(CodeSet set, CodeAnswer answer,
                                     std::span<const Question> questions);

 private:
  Json expected(const Json& job);
  sandbox::Judged run(const Json& job, bool alone);

  sandbox::Jail jail_;
  std::shared_mutex alone_;  // held shared by all runs, exclusively by one that is repeated
  std::counting_semaphore<> places_;  // as many runs at once as there are processors
  std::mutex mutex_;                  // of references_
  std::map<std::string, std::shared_future<Json>> references_;  // by hash of the reference job
};

// The unbiased estimate of the chance that one of k samples passes, from n of which c did
// (Chen et al. 2021): 1 - C(n - c, k) / C(n, k).  REQUIRES: 1 <= k <= n, 0 <= c <= n.
double pass_at_k(int64_t n, int64_t c, int64_t k);

}  // namespace narrow::evaluate
