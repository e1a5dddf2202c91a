#include "study/study.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "evaluate/overlap.h"
#include "load/hardware.h"
#include "load/load.h"
#include "quantize/pipeline.h"
#include "similarity/answers.h"
#include "similarity/divergence.h"
#include "store/store.h"
#include "study/ahead.h"
#include "study/evaluations.h"
#include "study/preparation.h"
#include "study/shuffled_endpoint.h"

namespace narrow::study {
namespace {

namespace fs = std::filesystem;
using store::Cell;

constexpr const char* kBaseline = "bf16";

// Of the baseline's second run: shares of what the engine takes on its backend by itself, which
// divide neither (24 of 64 sequences, 300 of 512 rows).
constexpr int64_t kRepeatBatch[] = {3, 8};
constexpr int64_t kRepeatStepTokens[] = {75, 128};

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

class Study {
 public:
  Study(Preparation prepared, const fs::path& directory)
      : prepared_(std::move(prepared)),
        directory_(directory),
        store_((fs::create_directories(directory), directory / "study.db")) {
    store_.set_fact("plan", prepared_.plan.to_json());
    store_.set_fact("model", prepared_.model_fact);
  }

  void run() {
    // Where rows are measured on a device, the processor makes the next checkpoints meanwhile;
    // not beside loads, whose timings it would lengthen.
    std::optional<Ahead> made;
    if (load_cases().empty() && measures_on_device()) {
      std::vector<std::function<void()>> steps;
      for (const std::string& format : prepared_.plan.formats)
        steps.push_back([this, format] { quantize(format); });
      made.emplace(std::move(steps), prepared_.settings.jobs);
    }
    for (size_t f = 0; f < prepared_.plan.formats.size(); ++f) {
      const std::string& format = prepared_.plan.formats[f];
      log::info("format {} ({} of {})", format, f + 1, prepared_.plan.formats.size());
      if (made) {
        made->wait(f);
      } else {
        quantize(format);
      }
      if (engine_cells_left(format)) {
        engine::Engine engine(checkpoint_of(format), engine_options());
        environment(engine);
        evaluate_tasks(format, engine);
        log_tokens(format, engine);
        answers(format, engine);
        if (!load_cases().empty()) evaluations_.finish();  // no programs beside what is timed
        loads(format, engine);
      }
      if (format == kBaseline) repeat_baseline();
      if (format != kBaseline) divergence(format);
    }
    evaluations_.finish();
    store_.flush();
  }

 private:
  bool measures_on_device() const {
    return prepared_.settings.backend != "cpu" && prepared_.settings.backend != "reference" &&
           ops::make_backend(prepared_.settings.backend, prepared_.settings.threads)
               ->describe()
               .starts_with("cuda");
  }

  engine::Options engine_options() const {
    return {.backend = prepared_.settings.backend,
            .threads = prepared_.settings.threads,
            .kv_dtype = prepared_.settings.kv_dtype};
  }

  fs::path checkpoint_of(const std::string& format) const {
    return format == kBaseline ? prepared_.model : directory_ / "checkpoints" / format;
  }

  // What every cell of a format depends on.
  Json format_key(const std::string& format) const {
    return {{"model_sha256", prepared_.model_sha256},
            {"recipe", prepared_.recipes.at(format).to_json()},
            {"backend", prepared_.settings.backend},
            {"version", prepared_.settings.version}};
  }

  // What every cell depends on in which the model runs.
  Json engine_key(const std::string& format) const {
    Json key = format_key(format);
    if (prepared_.settings.kv_dtype) key["kv_cache"] = name_of(*prepared_.settings.kv_dtype);
    return key;
  }

  Cell quantize_cell(const std::string& format) const {
    return {"quantize", format, prepared_.recipes.at(format).name, format_key(format)};
  }

  void quantize(const std::string& format) {
    const Cell cell = quantize_cell(format);
    if (store_.finished(cell) && fs::exists(checkpoint_of(format))) return;
    store_.add_cell(cell);
    const auto model = checkpoint::open(prepared_.model);
    const quantize::Recipe& recipe = prepared_.recipes.at(format);
    quantize::Calibration calibration;
    quantize::Report report;
    Json overlap;
    if (format == kBaseline) {
      report.checkpoint_bytes = model->config().parameters() * size_of(DType::bf16);
    } else {
      if (recipe.needs_calibration()) {
        const auto tokenizer = text::Tokenizer::from_json(model->documents().tokenizer,
                                                          model->documents().tokenizer_config);
        calibration = quantize::load_calibration(recipe.calibration, tokenizer, recipe.samples,
                                                 recipe.length);
        overlap = calibration_overlap(calibration, tokenizer);
      }
      // A directory without its row: the process ended between the two. It is made again.
      fs::remove_all(checkpoint_of(format));
      fs::create_directories(checkpoint_of(format).parent_path());
      // Calibration reads activations in host memory, whatever device the rows are measured on.
      const auto backend =
          ops::make_backend(prepared_.settings.backend == "reference" ? "reference" : "cpu",
                            prepared_.settings.threads);
      report = quantize::quantize(*model, recipe, calibration, checkpoint_of(format), *backend,
                                  prepared_.settings.threads);
    }
    Json row = quantize_row(format, report, calibration);
    if (!overlap.is_null()) row["calibration_overlap"] = std::move(overlap);
    store_.append(cell, {0, std::move(row)});
    store_.finish_cell(cell);
  }

  // By task, the questions that stand in the text methods calibrate on: a format made on them would
  // look better than it is.
  Json calibration_overlap(const quantize::Calibration& calibration,
                           const text::Tokenizer& tokenizer) const {
    evaluate::WordRuns runs;
    for (const auto& window : calibration.windows) runs.add(tokenizer.decode(window));
    Json overlap = Json::object();
    for (const evaluate::Task& task : prepared_.tasks) {
      const int64_t shared = evaluate::shared_documents(task, runs);
      overlap[task.name] = shared;
      if (shared > 0)
        log::warning("{}: {} questions share {} words in a row with the calibration text {}",
                     task.name, shared, evaluate::WordRuns::kWords, calibration.name);
    }
    return overlap;
  }

  Json quantize_row(const std::string& format, const quantize::Report& report,
                    const quantize::Calibration& calibration) const {
    const quantize::Recipe& recipe = prepared_.recipes.at(format);
    Json row = report.to_json(recipe, calibration);
    row["recipe"] = recipe.name;
    row["checkpoint_bytes"] = report.checkpoint_bytes;
    row["seconds"] = report.seconds;
    // Bits and bytes as stored, over the decoder's linears, and what a decode step reads.
    const auto made = checkpoint::open(checkpoint_of(format));
    const checkpoint::ModelConfig& config = made->config();
    double bits = 0, weights = 0;
    int64_t bytes = 0;
    for (int64_t i = 0; i < config.layers; ++i) {
      for (const auto& [name, linear] : model::read_layer(*made, i).linears) {
        const double count = static_cast<double>(linear.in) * static_cast<double>(linear.out);
        bits += bits_per_weight(linear.scheme, linear.in) * count;
        weights += count;
        bytes += linear.size_bytes();
      }
    }
    row["bits_per_weight"] = bits / weights;
    row["weight_bytes_per_token"] =
        bytes + config.vocabulary * config.hidden * size_of(DType::bf16);
    return row;
  }

  Cell task_cell(const std::string& format, size_t t) const {
    Json key = engine_key(format);
    key["task"] = evaluate::task_key(prepared_.tasks[t], prepared_.run_options(t));
    return {"eval", format, prepared_.tasks[t].name, key};
  }

  static void log_tokens(const std::string& label, const engine::Engine& engine) {
    const engine::Stats stats = engine.stats();
    if (stats.steps == 0) return;
    log::info(
        "{} tasks answered: {} prompt tokens computed, {} found computed, {} generated, in {} "
        "steps",
        label, stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens, stats.steps);
  }

  Evaluations::Item item(size_t t, Cell cell, endpoint::Endpoint& endpoint) const {
    return {&prepared_.tasks[t], prepared_.run_options(t), std::move(cell), &endpoint};
  }

  void evaluate_tasks(const std::string& format, endpoint::Endpoint& endpoint) {
    std::vector<Evaluations::Item> items;
    for (size_t t = 0; t < prepared_.tasks.size(); ++t)
      items.push_back(item(t, task_cell(format, t), endpoint));
    evaluations_.run(format, items);
  }

  // The answers themselves are a cell of every format; the comparison with the baseline's is made
  // from them.
  Cell answers_cell(const std::string& format) const {
    Json key = engine_key(format);
    key["prompts_sha256"] = sha256_file(prepared_.prompts);
    key["prompts"] = prepared_.plan.text_prompts;
    key["max_tokens"] = prepared_.plan.text_max_tokens;
    return {"answers", format, "text", key};
  }

  std::vector<similarity::Answer> stored_answers(const std::string& format) const {
    std::vector<similarity::Answer> answers;
    for (const store::Row& row : store_.rows(answers_cell(format)))
      answers.push_back(
          {row.data["ids"].get<std::vector<int32_t>>(), row.data["text"].get<std::string>()});
    return answers;
  }

  void answers(const std::string& format, endpoint::Endpoint& endpoint) {
    if (prepared_.plan.text_prompts == 0) return;
    const auto prompts =
        similarity::read_prompts(prepared_.prompts.string(), prepared_.plan.text_prompts);
    answer_cell(answers_cell(format), format, prompts, endpoint);
    if (format == kBaseline) return;
    const Cell compared = text_cell(format);
    if (store_.finished(compared)) return;
    store_.add_cell(compared);
    const auto base = stored_answers(kBaseline), variant = stored_answers(format);
    for (size_t i = 0; i < prompts.size(); ++i)
      store_.append(compared, {static_cast<int64_t>(i),
                               similarity::compare_answers(prompts[i], base[i], variant[i],
                                                           prepared_.encoder.get())});
    store_.finish_cell(compared);
  }

  void answer_cell(const Cell& cell, const std::string& label,
                   const std::vector<similarity::TextPrompt>& prompts,
                   endpoint::Endpoint& endpoint) {
    if (store_.finished(cell)) return;
    store_.add_cell(cell);
    const auto done = indices_of(store_.rows(cell));
    Progress progress(label + " answers", prepared_.plan.text_prompts, "prompts");
    progress.skip(static_cast<int64_t>(done.size()));
    similarity::generate_answers(
        endpoint, prompts, prepared_.plan.text_max_tokens, done,
        [&](int64_t index, const similarity::Answer& answer) {
          store_.append(cell, {index, {{"ids", answer.ids}, {"text", answer.text}}});
          progress.advance();
        });
    store_.finish_cell(cell);
  }

  // The cell that a cell of the baseline is held against: the same, asked again in another order
  // and in other batches.
  Cell repeat_cell(Cell cell) const {
    cell.kind = "repeat";
    cell.key["repeat"] = {{"seed", prepared_.settings.seed + 1},
                          {"max_batch", kRepeatBatch},
                          {"max_step_tokens", kRepeatStepTokens},
                          {"shuffled", "task by task"}};
    return cell;
  }

  // The A/A run: whatever differs from the first run is noise of the measurement, and the report
  // claims nothing as long as there is some.
  void repeat_baseline() {
    std::vector<Cell> tasks;
    bool left = false;
    for (size_t t = 0; t < prepared_.tasks.size(); ++t) {
      tasks.push_back(repeat_cell(task_cell(kBaseline, t)));
      left |= !store_.finished(tasks.back());
    }
    std::optional<Cell> text;
    if (prepared_.plan.text_prompts > 0) text = repeat_cell(answers_cell(kBaseline));
    left |= text && !store_.finished(*text);
    if (!left) return;
    engine::Options options = engine_options();
    const ops::EngineDefaults defaults =
        ops::make_backend(prepared_.settings.backend, prepared_.settings.threads)
            ->engine_defaults();
    options.max_batch = defaults.sequences * kRepeatBatch[0] / kRepeatBatch[1];
    options.max_step_tokens = defaults.step_tokens * kRepeatStepTokens[0] / kRepeatStepTokens[1];
    engine::Engine engine(checkpoint_of(kBaseline), options);
    // One for each task and the answers: it hands results back in the order they were asked for,
    // and a choice must not wait for another task's long answer.
    std::deque<ShuffledEndpoint> shuffled;
    for (size_t i = 0; i <= prepared_.tasks.size(); ++i)
      shuffled.emplace_back(engine, prepared_.settings.seed + 1 + i);
    const std::string label = std::string(kBaseline) + " again,";
    std::vector<Evaluations::Item> items;
    for (size_t t = 0; t < prepared_.tasks.size(); ++t)
      items.push_back(item(t, tasks[t], shuffled[t]));
    evaluations_.run(label, items);
    log_tokens(label, engine);
    if (text)
      answer_cell(*text, label,
                  similarity::read_prompts(prepared_.prompts.string(), prepared_.plan.text_prompts),
                  shuffled.back());
  }

  Cell text_cell(const std::string& format) const {
    Json key = answers_cell(format).key;
    if (prepared_.encoder) key["encoder"] = prepared_.encoder_key;
    return {"similarity", format, "text", key};
  }

  Cell divergence_cell(const std::string& format) const {
    Json key = engine_key(format);
    key["text_sha256"] = sha256_file(prepared_.kl_text);
    key["windows"] = prepared_.plan.kl_windows;
    key["length"] = prepared_.plan.kl_length;
    return {"similarity", format, "kl/" + prepared_.kl_text.stem().string(), key};
  }

  void divergence(const std::string& format) {
    if (prepared_.plan.kl_windows == 0) return;
    const Cell cell = divergence_cell(format);
    if (store_.finished(cell)) return;
    store_.add_cell(cell);
    const auto base_backend =
        ops::make_backend(prepared_.settings.backend, prepared_.settings.threads);
    const auto base_model = checkpoint::open(prepared_.model);
    const auto variant_model = checkpoint::open(checkpoint_of(format));
    const auto tokenizer = text::Tokenizer::from_json(base_model->documents().tokenizer,
                                                      base_model->documents().tokenizer_config);
    const auto text = similarity::read_windows(prepared_.kl_text.string(), tokenizer,
                                               prepared_.plan.kl_windows, prepared_.plan.kl_length);
    model::Decoder base(*base_model, *base_backend), variant(*variant_model, *base_backend);
    const auto done = indices_of(store_.rows(cell));
    Progress progress(format + " divergence", prepared_.plan.kl_windows, "windows");
    progress.skip(static_cast<int64_t>(done.size()));
    similarity::measure_divergence(base, variant, prepared_.settings.kv_dtype, text, done,
                                   [&](int64_t index, Json row) {
                                     store_.append(cell, {index, std::move(row)});
                                     progress.advance();
                                   });
    store_.finish_cell(cell);
  }

  struct LoadCase {
    load::Scenario scenario;
    load::LoadPlan plan;
    std::string name;
  };

  std::vector<LoadCase> load_cases() const {
    std::vector<LoadCase> cases;
    for (const std::string& name : prepared_.plan.scenarios) {
      const load::Scenario scenario =
          load::scaled(load::load_scenario(name), prepared_.plan.load_scale);
      if (prepared_.plan.sync_requests > 0) {
        load::LoadPlan plan;
        plan.mode = load::LoadPlan::Mode::sync;
        plan.requests = prepared_.plan.sync_requests;
        plan.warmup = 1;
        plan.seed = prepared_.settings.seed;
        cases.push_back({scenario, plan, name + "/sync"});
      }
      if (prepared_.plan.async_requests > 0) {
        load::LoadPlan plan;
        plan.mode = load::LoadPlan::Mode::async;
        plan.requests = prepared_.plan.async_requests;
        plan.seed = prepared_.settings.seed;
        cases.push_back({scenario, plan, name + "/async"});
      }
    }
    return cases;
  }

  fs::path load_text() const { return data_folder("recipes/calibration") / "c4_sample.txt.gz"; }

  Cell load_cell(const std::string& format, const LoadCase& load) const {
    Json key = engine_key(format);
    key["load"] = load::load_key(load.scenario, load.plan, sha256_file(load_text()));
    key["scale"] = prepared_.plan.load_scale;
    key["threads"] = prepared_.settings.threads;
    return {"load", format, load.name, key};
  }

  // A load cell is run whole: its timings belong together.
  void loads(const std::string& format, endpoint::Endpoint& endpoint) {
    const auto cases = load_cases();
    if (cases.empty()) return;
    const std::string text = read_text_maybe_gz(load_text());
    Progress progress(format + " loads", static_cast<int64_t>(cases.size()), "scenarios");
    for (const LoadCase& load : cases) {
      const Cell cell = load_cell(format, load);
      if (store_.finished(cell)) {
        progress.skip(1);
        continue;
      }
      store_.add_cell(cell);
      const auto rows = load::run_load(endpoint, load.scenario, load.plan, text);
      for (size_t i = 0; i < rows.size(); ++i)
        store_.append(cell, {static_cast<int64_t>(i), rows[i]});
      store_.finish_cell(cell);
      progress.advance();
    }
  }

  bool engine_cells_left(const std::string& format) const {
    for (size_t t = 0; t < prepared_.tasks.size(); ++t)
      if (!store_.finished(task_cell(format, t))) return true;
    if (prepared_.plan.text_prompts > 0 &&
        (!store_.finished(answers_cell(format)) ||
         (format != kBaseline && !store_.finished(text_cell(format)))))
      return true;
    for (const LoadCase& load : load_cases())
      if (!store_.finished(load_cell(format, load))) return true;
    return false;
  }

  void environment(const engine::Engine& engine) {
    const load::Hardware hardware = load::load_hardware(prepared_.settings.hardware);
    const std::optional<double> price = prepared_.settings.price_per_hour
                                            ? prepared_.settings.price_per_hour
                                            : hardware.price_per_hour;
    const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    const Json row{{"cpu", processor_name()},
                   {"backend", engine.info().backend},
                   {"format_notes", engine.info().format_notes},
                   {"threads", prepared_.settings.threads > 0
                                   ? prepared_.settings.threads
                                   : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))},
                   {"memory_bytes", memory},
                   {"narrow", prepared_.settings.version},
                   {"hardware", hardware.name},
                   {"price_per_hour", price ? Json(*price) : Json()}};
    const Cell cell{"environment", "", "machine", row};
    store_.add_cell(cell);
    store_.append(cell, {0, row});
    store_.finish_cell(cell);
  }

  const Preparation prepared_;
  const fs::path directory_;
  store::Store store_;
  Evaluations evaluations_{store_};  // last: its threads use all the others
};

}  // namespace

void run(const Plan& plan, const Settings& settings, const fs::path& directory) {
  Study(prepare(plan, settings), directory).run();
}

}  // namespace narrow::study
