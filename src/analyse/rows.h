// What a study observed, as typed rows. A store may come from anywhere: each row is checked, and
// one that does not follow its format is an Error naming cell and row.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analyse/samples.h"
#include "base/json.h"
#include "store/store.h"

namespace narrow::analyse {

// One cell as it lies in the store.
struct CellRows {
  store::Cell cell;
  bool finished = true;
  std::vector<store::Row> rows;
};

// Of every typed cell: where it comes from. id: first 12 hex digits of the cell's id.
struct Source {
  std::string format, name, id;
  bool finished = true;
};

struct EvalItem {
  int64_t index = 0;  // of its row
  int64_t doc_id = 0;
  std::string subtask;  // doc_id counts within it; empty: the task has none
  std::string prompt_hash;
  // By filter for generated answers, else under "": what was answered, as a line of JSON.
  std::map<std::string, std::string> answers;
  std::map<std::string, double> metrics;
  int64_t choices = 0;                 // continuations scored; 0: the answer was generated
  std::vector<double> loglikelihoods;  // of the choices
  bool truncated = false;
  std::string cluster;  // empty: none
};
struct EvalCell {
  Source source;
  std::string task;  // of the plan: "mmlu" for the cell "mmlu_anatomy"
  std::vector<EvalItem> items;
};

struct DivergenceWindow {
  std::vector<double> kl, nll_base, nll;  // per position, nats
  int64_t agreements = 0;                 // positions with the same most likely token
};
struct DivergenceCell {
  Source source;
  std::string text;
  std::vector<DivergenceWindow> windows;
};

struct TextPair {
  std::string prompt_id, prompt, base_text, text;
  double rouge1 = 0, rouge2 = 0, rougeL = 0;
  std::optional<double> sts, bertscore;     // where the study had an encoder; bertscore: F1
  std::optional<int64_t> first_divergence;  // token; none: identical
  int64_t base_tokens = 0, tokens = 0;
};
struct TextCell {
  Source source;
  std::vector<TextPair> pairs;
};

enum class Mode { sync, async };
std::string to_string(Mode mode);  // "synchronous", "asynchronous"

// Times in seconds: intended and sent from the start of the cell's run, first token and end from
// the intended time, so that waiting to be sent counts.
struct Request {
  int64_t prompt_tokens = 0, output_tokens = 0, concurrency = 0;
  double intended_s = 0, sent_s = 0, ttft_s = 0, e2e_s = 0;
  std::vector<double> itl_s;
  bool ok = false, warmup = false;
};
struct LoadCell {
  Source source;
  std::string scenario;
  Mode mode = Mode::sync;
  std::vector<Request> requests;
};

struct QuantizedLayer {
  std::string module, note;
  double relative_error = 0;           // of the weights
  std::optional<double> output_error;  // of the layer's output on calibration inputs
  std::optional<int64_t> group_size;
};
struct QuantizeCell {
  Source source;
  std::string recipe, calibration;
  int64_t checkpoint_bytes = 0, weight_bytes_per_token = 0, calibration_tokens = 0;
  double bits_per_weight = 0, seconds = 0;
  std::vector<QuantizedLayer> layers;
  std::vector<std::string> notes;
};

struct EnvironmentCell {
  Source source;
  std::string cpu, backend, version, hardware;
  int64_t threads = 0, memory_bytes = 0;
  double price_per_hour = 0;                        // 0: unknown
  std::map<std::string, std::string> format_notes;  // how the backend runs a format, by its name
};

// A cell of the baseline that was run a second time under another schedule (an A/A run), row
// against row. Rows are alike when their bytes are.
struct RepeatCell {
  Source source;          // name: the task, or "text" for the greedy answers
  int64_t rows = 0;       // compared
  int64_t differing = 0;  // not alike
  int64_t scores = 0;     // of those, rows whose score differs
  int64_t missing = 0;    // rows that only one of the two runs has
};

struct StudyRows {
  Json plan, model;  // facts of the store; null when absent
  std::vector<EvalCell> evals;
  std::vector<DivergenceCell> divergences;
  std::vector<TextCell> texts;
  std::vector<LoadCell> loads;
  std::vector<QuantizeCell> quantized;
  std::vector<EnvironmentCell> environments;
  std::vector<RepeatCell> repeats;
  std::vector<std::string> answered;  // formats whose greedy answers are in the store
  Samples samples;
  int64_t superseded = 0;  // cells left out because the same was run again with other settings
};

// The format all are compared with: the plan's first.
std::string baseline_of(const Json& plan);

// Of cells with the same kind, format and name (run again with another version, say) the last
// finished one counts, or the last. Throws Error::refused for a row that does not follow its
// format.
StudyRows parse_study(const Json& plan, const Json& model, const std::vector<CellRows>& cells);
// Reads the facts "plan" and "model" and every cell, one at a time.
StudyRows load_study(const store::Store& store);

}  // namespace narrow::analyse
