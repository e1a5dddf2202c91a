// A made-up study for tests: five formats with known differences, three tasks, all kinds of cells.
// The numbers are drawn, not measured; nothing outside tests includes this.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "analyse/rng.h"
#include "analyse/rows.h"

namespace narrow::analyse::test {

struct Shape {
  int64_t questions = 60;
  int64_t requests = 3;
  double lossless_percent = 1;
  std::string prompt = "Why is the sky blue?";  // of every text pair
  std::string suffix;                           // behind every name that a user might control
};

struct FormatTraits {
  const char* name;
  double flip;   // share of questions whose answer changes
  double speed;  // against the baseline, synchronous; asynchronous gains half of it
  double noise;  // of its distributions
  double bits;
};

inline const std::vector<FormatTraits>& traits() {
  static const std::vector<FormatTraits> kTraits = {{"bf16", 0, 1, 0, 16},
                                                    {"w8a8-fp", 0.03, 1.45, 0.004, 8.2},
                                                    {"w8a8-int", 0.04, 1.7, 0.008, 8.1},
                                                    {"w4a16-int", 0.12, 2.3, 0.06, 4.6},
                                                    {"w4a16-awq", 0.14, 2.2, 0.075, 4.6}};
  return kTraits;
}

inline CellRows cell(const std::string& kind, const std::string& format, const std::string& name) {
  return {{kind, format, name, {{"format", format}, {"name", name}}}, true, {}};
}

inline void append(CellRows& rows, Json data) {
  rows.rows.push_back({static_cast<int64_t>(rows.rows.size()), std::move(data)});
}

inline Json plan(const Shape& shape) {
  Json formats = Json::array();
  for (const FormatTraits& format : traits()) formats.push_back(format.name + shape.suffix);
  return {{"name", "made-up" + shape.suffix},
          {"model", "org/Test-Model-1B" + shape.suffix},
          {"formats", formats},
          {"tasks",
           {{{"name", "arc_challenge"}, {"limit", shape.questions}},
            {{"name", "mmlu"}, {"limit", 2}},
            {{"name", "gsm8k"}, {"limit", shape.questions}}}},
          {"load", {{"scale", 0.125}}},
          {"margin_points", 1.0},
          {"lossless_margin_percent", shape.lossless_percent}};
}

inline std::vector<CellRows> eval_cells(const FormatTraits& format, const Shape& shape) {
  struct TaskTraits {
    const char* name;
    const char* metric;
    int64_t choices;
    double accuracy;
  };
  static constexpr TaskTraits kTasks[] = {{"arc_challenge", "acc_norm", 4, 0.55},
                                          {"mmlu_anatomy", "acc", 4, 0.6},
                                          {"mmlu_virology", "acc", 4, 0.5},
                                          {"gsm8k", "exact_match,strict-match", 0, 0.4}};
  std::vector<CellRows> cells;
  for (const TaskTraits& task : kTasks) {
    CellRows rows = cell("eval", format.name + shape.suffix, task.name);
    Rng base(seed_for(1, task.name));  // the same answers of the baseline for every format
    Rng own(seed_for(2, std::string(task.name) + format.name));
    Rng likelihoods(seed_for(6, std::string(task.name) + format.name));
    for (int64_t i = 0; i < shape.questions; ++i) {
      bool right = base.uniform() < task.accuracy;
      const bool flipped = own.uniform() < format.flip;
      if (flipped) right = !right && own.uniform() < 0.7;
      const int64_t answer = right ? 0 : flipped ? 2 : 1;
      Json row{
          {"doc_id", i},
          {"doc_hash", std::to_string(i)},
          {"prompt_hash", std::to_string(i)},
          // A huge text once is enough.
          {"prompt",
           (shape.prompt.size() < 1000 || (i == 0 && task.choices == 0) ? shape.prompt : "Why?") +
               "\nQuestion " + std::to_string(i) + " of " + task.name + "\nAnswer:"},
          {"target", task.choices > 0 ? Json(0) : Json("42")},
          {"metrics", {{task.metric, right ? 1.0 : 0.0}}},
          {"cluster", nullptr}};
      if (task.choices > 0) {
        row["answer"] = answer;
        std::vector<double> loglikelihoods(static_cast<size_t>(task.choices));
        for (int64_t choice = 0; choice < task.choices; ++choice) {
          row["choices"].push_back("choice " + std::to_string(choice) + shape.suffix);
          loglikelihoods[static_cast<size_t>(choice)] =
              choice == answer ? -1.0 : -2.5 - static_cast<double>(choice) - likelihoods.uniform();
        }
        row["loglikelihoods"] = loglikelihoods;
      } else {
        const std::string value = right ? "42" : flipped ? "44" : "43";
        row["answer"] = {{"strict-match", value}};
        row["response"] = "Seven apples and six rows make " +
                          std::string(flipped ? "about " : "exactly ") + value + ".\n#### " +
                          value + shape.suffix;
        row["finish"] = i % 20 == 0 ? "length" : "stop";
      }
      append(rows, std::move(row));
    }
    cells.push_back(std::move(rows));
  }
  return cells;
}

// The baseline's second run, alike to the last byte.
inline std::vector<CellRows> repeat_cells(const FormatTraits& format, const Shape& shape) {
  auto cells = eval_cells(format, shape);
  for (CellRows& rows : cells) {
    rows.cell.kind = "repeat";
    rows.cell.key["repeat"] = 1;
  }
  return cells;
}

inline std::vector<CellRows> similarity_cells(const FormatTraits& format, const Shape& shape) {
  CellRows windows = cell("similarity", format.name + shape.suffix, "kl/wikitext2");
  Rng rng(seed_for(3, format.name));
  for (int window = 0; window < 8; ++window) {
    std::vector<double> kl, agree, base, nll;
    for (int i = 0; i < 64; ++i) {
      kl.push_back(-std::log(1 - rng.uniform()) * format.noise);
      agree.push_back(rng.uniform() > format.noise ? 1 : 0);
      base.push_back(2.5 + rng.uniform());
      nll.push_back(base.back() + format.noise * (rng.uniform() - 0.3));
    }
    append(windows, {{"window", window},
                     {"positions", 64},
                     {"kl", kl},
                     {"top1_agree", agree},
                     {"nll_base", base},
                     {"nll", nll}});
  }
  CellRows texts = cell("similarity", format.name + shape.suffix, "text");
  for (int i = 0; i < 12; ++i) {
    const bool same = rng.uniform() > 8 * format.noise + 0.2;
    const std::string shared = "The light of the sun is scattered by the air. ";
    append(texts, {{"prompt_id", "p" + std::to_string(i)},
                   {"prompt", shape.prompt},
                   {"base_text", shared + "Short waves scatter more, and so the sky looks blue."},
                   {"text", shared + (same ? "Short waves scatter more, and so the sky looks blue."
                                           : "Blue light has short waves, which scatter most.")},
                   {"rouge1", same ? 1.0 : 0.7 - rng.uniform() * 0.2},
                   {"rouge2", same ? 1.0 : 0.5},
                   {"rougeL", same ? 1.0 : 0.6},
                   {"first_divergence", same ? Json(nullptr) : Json(10 + i)},
                   {"base_tokens", 24},
                   {"tokens", 22}});
  }
  return {windows, texts};
}

inline std::vector<CellRows> load_cells(const FormatTraits& format, const Shape& shape) {
  struct Scenario {
    const char* name;
    int64_t prompt, output;
  };
  static constexpr Scenario kScenarios[] = {{"code_completion", 256, 1024}, {"docstring", 768, 128},
                                            {"code_fixing", 1024, 1024},    {"rag", 1024, 128},
                                            {"instruction", 256, 128},      {"chat", 512, 256},
                                            {"summarization", 4096, 512}};
  std::vector<CellRows> cells;
  for (const Scenario& scenario : kScenarios) {
    for (const bool sync : {true, false}) {
      CellRows rows = cell("load", format.name + shape.suffix,
                           std::string(scenario.name) + (sync ? "/sync" : "/async"));
      Rng rng(seed_for(4, rows.cell.name + format.name));
      const double speed = sync ? format.speed : 1 + (format.speed - 1) / 2;
      const int64_t requests = sync ? shape.requests : 4 * shape.requests;
      double now = 0;
      for (int64_t i = 0; i < requests; ++i) {
        const double ttft = static_cast<double>(scenario.prompt) * 1e-4;
        const double itl = 0.012 / speed * (0.98 + 0.04 * rng.uniform()) * (sync ? 1 : 2);
        const double e2e = ttft + itl * static_cast<double>(scenario.output);
        append(rows, {{"scenario", scenario.name},
                      {"mode", sync ? "sync" : "async"},
                      {"prompt_tokens", scenario.prompt},
                      {"output_tokens", scenario.output},
                      {"intended_s", now},
                      {"sent_s", now},
                      {"ttft_s", ttft},
                      {"e2e_s", e2e},
                      {"itl_s", std::vector<double>(3, itl)},
                      {"status", "ok"},
                      {"error", nullptr},
                      {"concurrency", sync ? 1 : 4},
                      {"warmup", false}});
        now += sync ? e2e : 0;
      }
      cells.push_back(std::move(rows));
    }
  }
  return cells;
}

inline CellRows quantize_cell(const FormatTraits& format, const Shape& shape) {
  CellRows rows = cell("quantize", format.name + shape.suffix, "");
  Rng rng(seed_for(5, format.name));
  Json layers = Json::array();
  for (int i = 0; i < 16; ++i)
    for (const char* part :
         {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"})
      layers.push_back(
          {{"module", "model.layers." + std::to_string(i) + "." + part},
           {"relative_error", format.noise * (0.5 + rng.uniform())},
           {"output_error", format.bits < 8 ? Json(format.noise * rng.uniform()) : Json(nullptr)},
           {"group_size", format.bits < 8 ? Json(128) : Json(nullptr)},
           {"note", nullptr}});
  append(rows, {{"format", format.name},
                {"recipe", format.name},
                {"checkpoint_bytes", static_cast<int64_t>(format.bits * 1e9 / 8)},
                {"weight_bytes_per_token", static_cast<int64_t>(format.bits * 0.9e9 / 8)},
                {"bits_per_weight", format.bits},
                {"seconds", format.bits < 16 ? 30.5 : 0.0},
                {"calibration", format.bits < 8 ? "general" : ""},
                {"calibration_tokens", format.bits < 8 ? 16384 : 0},
                {"layers", format.bits < 16 ? layers : Json::array()},
                {"notes", Json::array()}});
  return rows;
}

inline std::vector<CellRows> cells(const Shape& shape = {}) {
  std::vector<CellRows> all;
  const auto add = [&](std::vector<CellRows> more) {
    for (CellRows& rows : more) all.push_back(std::move(rows));
  };
  CellRows environment = cell("environment", "", "");
  append(environment, {{"cpu", "Made-up CPU" + shape.suffix},
                       {"backend", "cpu (avx2)"},
                       {"threads", 2},
                       {"memory_bytes", 16000000000},
                       {"narrow", "0.1.0"},
                       {"hardware", "made-up-box"},
                       {"price_per_hour", 0.1}});
  all.push_back(std::move(environment));
  for (const FormatTraits& format : traits()) {
    add({quantize_cell(format, shape)});
    add(eval_cells(format, shape));
    if (format.noise == 0) add(repeat_cells(format, shape));
    if (format.noise > 0) add(similarity_cells(format, shape));
    add(load_cells(format, shape));
  }
  return all;
}

inline StudyRows study(const Shape& shape = {}) {
  return parse_study(plan(shape), {{"name", "Test-Model-1B" + shape.suffix}, {"family", "llama"}},
                     cells(shape));
}

}  // namespace narrow::analyse::test
