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
#include "checkpoint/hub.h"
#include "engine/engine.h"
#include "evaluate/overlap.h"
#include "evaluate/results.h"
#include "evaluate/ruler_task.h"
#include "load/hardware.h"
#include "load/load.h"
#include "quantize/pipeline.h"
#include "similarity/answers.h"
#include "similarity/divergence.h"
#include "store/store.h"
#include "study/ahead.h"
#include "study/evaluations.h"
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

// "auto" as what it is on this machine: cells of a study that is continued on another are not
// mixed.
Settings with_backend_named(Settings settings) {
  if (settings.backend == "auto") settings.backend = ops::make_backend("auto", 1)->name();
  return settings;
}

class Study {
 public:
  Study(const Plan& plan, const Settings& settings, const fs::path& directory)
      : plan_(plan),
        settings_(with_backend_named(settings)),
        directory_(directory),
        model_path_(checkpoint::resolve_model(plan.model)),
        store_((fs::create_directories(directory), directory / "study.db")) {
    const auto model = checkpoint::open(model_path_);
    model_sha256_ = model->fingerprint();
    store_.set_fact("plan", plan.to_json());
    store_.set_fact("model", {{"name", model_path_.filename().string()},
                              {"sha256", model_sha256_},
                              {"family", model->config().family},
                              {"parameters", model->config().parameters()},
                              {"source_format", model_path_.extension() == ".gguf" ? "GGUF" : ""}});
    for (const std::string& format : plan.formats) recipes_.emplace(format, recipe(format));
    for (const TaskPlan& task : plan.tasks) {
      tasks_.push_back(evaluate::ruler_length(task.name) > 0
                           ? ruler_task(task, *model)
                           : evaluate::load_task(task.name, settings.data));
      // Recovery is of scores of which none is below 0 and more is better.
      if (std::ranges::none_of(tasks_.back().metrics, evaluate::higher_is_better))
        throw Error::refused("a study compares scores of right answers, not perplexities or errors",
                             "task " + task.name,
                             "narrow eval gives it for each checkpoint, compare --text the ratio");
      evaluate::check_shots(tasks_.back(), run_options(tasks_.size() - 1).prompt);
    }
    if (!settings.encoder.empty() && plan.text_prompts > 0) {
      encoder_ = std::make_unique<similarity::AnswerEncoder>(
          checkpoint::resolve_model(settings.encoder), settings.backend, settings.threads);
      encoder_key_ = encoder_->key();
    }
    if (plan.kl_windows > 0) kl_text_ = text_file("squad_passages.txt");
    if (plan.text_prompts > 0) prompts_file_ = text_file("squad_prompts.jsonl");
  }

  void run() {
    // Where rows are measured on a device, the processor makes the next checkpoints meanwhile;
    // not beside loads, whose timings it would lengthen.
    std::optional<Ahead> made;
    if (load_cases().empty() && measures_on_device()) {
      std::vector<std::function<void()>> steps;
      for (const std::string& format : plan_.formats)
        steps.push_back([this, format] { quantize(format); });
      made.emplace(std::move(steps), settings_.jobs);
    }
    for (size_t f = 0; f < plan_.formats.size(); ++f) {
      const std::string& format = plan_.formats[f];
      log::info("format {} ({} of {})", format, f + 1, plan_.formats.size());
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
    return settings_.backend != "cpu" && settings_.backend != "reference" &&
           ops::make_backend(settings_.backend, settings_.threads)->describe().starts_with("cuda");
  }

  evaluate::Task ruler_task(const TaskPlan& task, const checkpoint::Checkpoint& model) const {
    const checkpoint::Documents& documents = model.documents();
    const auto tokenizer =
        text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config);
    std::optional<text::ChatTemplate> chat;
    if (!documents.chat_template.empty()) chat.emplace(documents.chat_template);
    return evaluate::make_ruler_task(
        task.name, evaluate::data_root(settings_.data), task.limit,
        {tokenizer, chat ? &*chat : nullptr, task.chat_template.value_or(plan_.chat_template),
         model.config().context_tokens});
  }

  quantize::Recipe recipe(const std::string& format) const {
    quantize::Recipe recipe = quantize::load_recipe(format);
    recipe.samples = plan_.calibration_samples;
    recipe.length = plan_.calibration_length;
    return recipe;
  }

  // Looked for before anything is asked: similarity comes last.
  fs::path text_file(const char* name) const {
    const fs::path file = evaluate::data_root(settings_.data) / "text" / name;
    if (!fs::exists(file))
      throw Error::refused("the plan measures similarity, its text is missing", file.string(),
                           "scripts/fetch_data.py makes data/eval/text: copy that folder there");
    return file;
  }

  engine::Options engine_options() const {
    return {
        .backend = settings_.backend, .threads = settings_.threads, .kv_dtype = settings_.kv_dtype};
  }

  fs::path checkpoint_of(const std::string& format) const {
    return format == kBaseline ? model_path_ : directory_ / "checkpoints" / format;
  }

  // What every cell of a format depends on.
  Json format_key(const std::string& format) const {
    return {{"model_sha256", model_sha256_},
            {"recipe", recipes_.at(format).to_json()},
            {"backend", settings_.backend},
            {"version", settings_.version}};
  }

  // What every cell depends on that the engine answers.
  Json engine_key(const std::string& format) const {
    Json key = format_key(format);
    if (settings_.kv_dtype) key["kv_cache"] = name_of(*settings_.kv_dtype);
    return key;
  }

  Cell quantize_cell(const std::string& format) const {
    return {"quantize", format, recipes_.at(format).name, format_key(format)};
  }

  void quantize(const std::string& format) {
    const Cell cell = quantize_cell(format);
    if (store_.finished(cell) && fs::exists(checkpoint_of(format))) return;
    store_.add_cell(cell);
    const auto model = checkpoint::open(model_path_);
    const quantize::Recipe& recipe = recipes_.at(format);
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
      const auto backend = ops::make_backend(settings_.backend == "reference" ? "reference" : "cpu",
                                             settings_.threads);
      report = quantize::quantize(*model, recipe, calibration, checkpoint_of(format), *backend,
                                  settings_.threads);
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
    for (const evaluate::Task& task : tasks_) {
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
    const quantize::Recipe& recipe = recipes_.at(format);
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
    key["task"] = evaluate::task_key(tasks_[t], run_options(t));
    return {"eval", format, tasks_[t].name, key};
  }

  evaluate::RunOptions run_options(size_t t) const {
    const TaskPlan& plan = plan_.tasks[t];
    return {plan.limit, {plan.shots, plan.chat_template.value_or(plan_.chat_template)}};
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
    return {&tasks_[t], run_options(t), std::move(cell), &endpoint};
  }

  void evaluate_tasks(const std::string& format, endpoint::Endpoint& endpoint) {
    std::vector<Evaluations::Item> items;
    for (size_t t = 0; t < tasks_.size(); ++t)
      items.push_back(item(t, task_cell(format, t), endpoint));
    evaluations_.run(format, items);
  }

  // The answers themselves are a cell of every format; the comparison with the baseline's is made
  // from them.
  Cell answers_cell(const std::string& format) const {
    Json key = engine_key(format);
    key["prompts_sha256"] = sha256_file(prompts_file_);
    key["prompts"] = plan_.text_prompts;
    key["max_tokens"] = plan_.text_max_tokens;
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
    if (plan_.text_prompts == 0) return;
    const auto prompts = similarity::read_prompts(prompts_file_.string(), plan_.text_prompts);
    answer_cell(answers_cell(format), format, prompts, endpoint);
    if (format == kBaseline) return;
    const Cell compared = text_cell(format);
    if (store_.finished(compared)) return;
    store_.add_cell(compared);
    const auto base = stored_answers(kBaseline), variant = stored_answers(format);
    for (size_t i = 0; i < prompts.size(); ++i)
      store_.append(compared,
                    {static_cast<int64_t>(i),
                     similarity::compare_answers(prompts[i], base[i], variant[i], encoder_.get())});
    store_.finish_cell(compared);
  }

  void answer_cell(const Cell& cell, const std::string& label,
                   const std::vector<similarity::TextPrompt>& prompts,
                   endpoint::Endpoint& endpoint) {
    if (store_.finished(cell)) return;
    store_.add_cell(cell);
    const auto done = indices_of(store_.rows(cell));
    Progress progress(label + " answers", plan_.text_prompts, "prompts");
    progress.skip(static_cast<int64_t>(done.size()));
    similarity::generate_answers(
        endpoint, prompts, plan_.text_max_tokens, done,
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
    cell.key["repeat"] = {{"seed", settings_.seed + 1},
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
    for (size_t t = 0; t < tasks_.size(); ++t) {
      tasks.push_back(repeat_cell(task_cell(kBaseline, t)));
      left |= !store_.finished(tasks.back());
    }
    std::optional<Cell> text;
    if (plan_.text_prompts > 0) text = repeat_cell(answers_cell(kBaseline));
    left |= text && !store_.finished(*text);
    if (!left) return;
    engine::Options options = engine_options();
    const ops::EngineDefaults defaults =
        ops::make_backend(settings_.backend, settings_.threads)->engine_defaults();
    options.max_batch = defaults.sequences * kRepeatBatch[0] / kRepeatBatch[1];
    options.max_step_tokens = defaults.step_tokens * kRepeatStepTokens[0] / kRepeatStepTokens[1];
    engine::Engine engine(checkpoint_of(kBaseline), options);
    // One for each task and the answers: it hands results back in the order they were asked for,
    // and a choice must not wait for another task's long answer.
    std::deque<ShuffledEndpoint> shuffled;
    for (size_t i = 0; i <= tasks_.size(); ++i)
      shuffled.emplace_back(engine, settings_.seed + 1 + i);
    const std::string label = std::string(kBaseline) + " again,";
    std::vector<Evaluations::Item> items;
    for (size_t t = 0; t < tasks_.size(); ++t) items.push_back(item(t, tasks[t], shuffled[t]));
    evaluations_.run(label, items);
    log_tokens(label, engine);
    if (text)
      answer_cell(*text, label,
                  similarity::read_prompts(prompts_file_.string(), plan_.text_prompts),
                  shuffled.back());
  }

  Cell text_cell(const std::string& format) const {
    Json key = answers_cell(format).key;
    if (encoder_) key["encoder"] = encoder_key_;
    return {"similarity", format, "text", key};
  }

  Cell divergence_cell(const std::string& format) const {
    Json key = format_key(format);
    key["text_sha256"] = sha256_file(kl_text_);
    key["windows"] = plan_.kl_windows;
    key["length"] = plan_.kl_length;
    return {"similarity", format, "kl/" + kl_text_.stem().string(), key};
  }

  void divergence(const std::string& format) {
    if (plan_.kl_windows == 0) return;
    const Cell cell = divergence_cell(format);
    if (store_.finished(cell)) return;
    store_.add_cell(cell);
    const auto base_backend = ops::make_backend(settings_.backend, settings_.threads);
    const auto base_model = checkpoint::open(model_path_);
    const auto variant_model = checkpoint::open(checkpoint_of(format));
    const auto tokenizer = text::Tokenizer::from_json(base_model->documents().tokenizer,
                                                      base_model->documents().tokenizer_config);
    const auto text =
        similarity::read_windows(kl_text_.string(), tokenizer, plan_.kl_windows, plan_.kl_length);
    model::Decoder base(*base_model, *base_backend), variant(*variant_model, *base_backend);
    const auto done = indices_of(store_.rows(cell));
    Progress progress(format + " divergence", plan_.kl_windows, "windows");
    progress.skip(static_cast<int64_t>(done.size()));
    ThreadPool pool(settings_.threads);
    similarity::measure_divergence(base, variant, text, done, pool, [&](int64_t index, Json row) {
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
    for (const std::string& name : plan_.scenarios) {
      const load::Scenario scenario = load::scaled(load::load_scenario(name), plan_.load_scale);
      if (plan_.sync_requests > 0) {
        load::LoadPlan plan;
        plan.mode = load::LoadPlan::Mode::sync;
        plan.requests = plan_.sync_requests;
        plan.warmup = 1;
        plan.seed = settings_.seed;
        cases.push_back({scenario, plan, name + "/sync"});
      }
      if (plan_.async_requests > 0) {
        load::LoadPlan plan;
        plan.mode = load::LoadPlan::Mode::async;
        plan.requests = plan_.async_requests;
        plan.seed = settings_.seed;
        cases.push_back({scenario, plan, name + "/async"});
      }
    }
    return cases;
  }

  fs::path load_text() const { return data_folder("recipes/calibration") / "c4_sample.txt.gz"; }

  Cell load_cell(const std::string& format, const LoadCase& load) const {
    Json key = engine_key(format);
    key["load"] = load::load_key(load.scenario, load.plan, sha256_file(load_text()));
    key["scale"] = plan_.load_scale;
    key["threads"] = settings_.threads;
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
    for (size_t t = 0; t < tasks_.size(); ++t)
      if (!store_.finished(task_cell(format, t))) return true;
    if (plan_.text_prompts > 0 && (!store_.finished(answers_cell(format)) ||
                                   (format != kBaseline && !store_.finished(text_cell(format)))))
      return true;
    for (const LoadCase& load : load_cases())
      if (!store_.finished(load_cell(format, load))) return true;
    return false;
  }

  void environment(const engine::Engine& engine) {
    const load::Hardware hardware = load::load_hardware(settings_.hardware);
    const std::optional<double> price =
        settings_.price_per_hour ? settings_.price_per_hour : hardware.price_per_hour;
    const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    const Json row{
        {"cpu", processor_name()},
        {"backend", engine.info().backend},
        {"format_notes", engine.info().format_notes},
        {"threads", settings_.threads > 0 ? settings_.threads
                                          : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))},
        {"memory_bytes", memory},
        {"narrow", settings_.version},
        {"hardware", hardware.name},
        {"price_per_hour", price ? Json(*price) : Json()}};
    const Cell cell{"environment", "", "machine", row};
    store_.add_cell(cell);
    store_.append(cell, {0, row});
    store_.finish_cell(cell);
  }

  const Plan plan_;
  const Settings settings_;
  const fs::path directory_;
  const fs::path model_path_;
  store::Store store_;
  std::string model_sha256_;
  std::map<std::string, quantize::Recipe> recipes_;
  std::vector<evaluate::Task> tasks_;
  std::unique_ptr<similarity::AnswerEncoder> encoder_;
  Json encoder_key_;
  fs::path kl_text_, prompts_file_;
  Evaluations evaluations_{store_};  // last: its threads use all the others
};

}  // namespace

void run(const Plan& plan, const Settings& settings, const fs::path& directory) {
  Study(plan, settings, directory).run();
}

}  // namespace narrow::study
