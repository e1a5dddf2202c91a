// RULER's thirteen tasks (NVIDIA/RULER, commit c3f5e3b), generated for a length and a tokenizer.
// The draws are those of its scripts, number for number, and needles go into essays between NLTK's
// sentences (evaluate/sentences.h): with equal data and tokenizer the samples are equal byte for
// byte. Everything is deterministic by seed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow::evaluate {

struct RulerSample {
  std::string input;                 // the user's text
  std::string answer_prefix;         // what the answer begins with: the model goes on from it
  std::vector<std::string> outputs;  // expected
  int64_t length_tokens = 0;         // of both, and of the answer
};

struct RulerOptions {
  int64_t length = 4096;  // tokens: prompt, answer prefix and answer
  int64_t samples = 500;  // fewer where the data have fewer questions
  uint32_t seed = 42;
  int64_t template_tokens = 0;  // of `length`, taken by a chat template
  // Folder with squad.json or squad_dev_subset.json, hotpotqa.json or
  // hotpot_distractor_subset.json, and, for the essay tasks, PaulGrahamEssays.json, essays.txt or
  // tinyshakespeare.txt: the first that is there.
  std::filesystem::path data;
};

// Tokens of a text, without special ones.
using TokenCounter = std::function<int64_t(const std::string& text)>;

enum class RulerScore { all, part };

struct RulerTask {
  std::string name;
  int64_t new_tokens = 0;
  RulerScore score = RulerScore::all;
};

// tasks/ruler/tasks.yaml, in its order.
std::vector<RulerTask> ruler_tasks();

// Throws Error::refused for an unknown task, missing data, or a length the task does not fit into.
std::vector<RulerSample> make_ruler(const std::string& task, const RulerOptions& options,
                                    const TokenCounter& count);

// Score of one answer in 0 … 1, case ignored, control characters read as line ends.
struct RulerVerdict {
  double ruler = 0;    // RULER's: all, the share of expected texts held; part, 1 if any is held
  double lm_eval = 0;  // lm-evaluation-harness's: part is divided by the number of expected texts
};
RulerVerdict score_ruler(RulerScore score, const std::string& answer,
                         const std::vector<std::string>& outputs);

}  // namespace narrow::evaluate
