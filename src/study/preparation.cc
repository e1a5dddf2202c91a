#include "study/preparation.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "evaluate/results.h"
#include "evaluate/ruler_task.h"
#include "ops/backend.h"

namespace narrow::study {
namespace {

namespace fs = std::filesystem;

// "auto" as what it is on this machine: cells of a study that is continued on another are not
// mixed.
Settings with_backend_named(Settings settings) {
  if (settings.backend == "auto") settings.backend = ops::make_backend("auto", 1)->name();
  return settings;
}

evaluate::Task ruler_task(const TaskPlan& task, const Plan& plan, const Settings& settings,
                          const checkpoint::Checkpoint& model) {
  const checkpoint::Documents& documents = model.documents();
  const auto tokenizer =
      text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config);
  std::optional<text::ChatTemplate> chat;
  if (!documents.chat_template.empty()) chat.emplace(documents.chat_template);
  return evaluate::make_ruler_task(
      task.name, evaluate::data_root(settings.data), task.limit,
      {tokenizer, chat ? &*chat : nullptr, task.chat_template.value_or(plan.chat_template),
       model.config().context_tokens});
}

quantize::Recipe recipe(const std::string& format, const Plan& plan) {
  quantize::Recipe recipe = quantize::load_recipe(format);
  recipe.samples = plan.calibration_samples;
  recipe.length = plan.calibration_length;
  return recipe;
}

fs::path text_file(const char* name, const Settings& settings) {
  const fs::path file = evaluate::data_root(settings.data) / "text" / name;
  if (!fs::exists(file))
    throw Error::refused("the plan measures similarity, its text is missing", file.string(),
                         "scripts/fetch_data.py makes data/eval/text: copy that folder there");
  return file;
}

}  // namespace

evaluate::RunOptions Preparation::run_options(size_t task) const {
  const TaskPlan& of = plan.tasks[task];
  return {of.limit, {of.shots, of.chat_template.value_or(plan.chat_template)}};
}

Preparation prepare(const Plan& plan, const Settings& settings) {
  Preparation prepared;
  prepared.plan = plan;
  prepared.settings = with_backend_named(settings);
  prepared.model = checkpoint::resolve_model(plan.model);
  const auto model = checkpoint::open(prepared.model);
  prepared.model_sha256 = model->fingerprint();
  prepared.model_fact = {{"name", prepared.model.filename().string()},
                         {"sha256", prepared.model_sha256},
                         {"family", model->config().family},
                         {"parameters", model->config().parameters()},
                         {"source_format", prepared.model.extension() == ".gguf" ? "GGUF" : ""}};
  for (const std::string& format : plan.formats)
    prepared.recipes.emplace(format, recipe(format, plan));
  for (const TaskPlan& of : plan.tasks) {
    const evaluate::Task& task = prepared.tasks.emplace_back(
        evaluate::ruler_length(of.name) > 0 ? ruler_task(of, plan, settings, *model)
                                            : evaluate::load_task(of.name, settings.data));
    // Recovery is of scores of which none is below 0 and more is better.
    if (std::ranges::none_of(task.metrics, evaluate::higher_is_better))
      throw Error::refused("a study compares scores of right answers, not perplexities or errors",
                           "task " + of.name,
                           "narrow eval gives it for each checkpoint, compare --text the ratio");
    evaluate::check_shots(task, prepared.run_options(prepared.tasks.size() - 1).prompt);
  }
  if (!settings.encoder.empty() && plan.text_prompts > 0) {
    prepared.encoder = std::make_unique<similarity::AnswerEncoder>(
        checkpoint::resolve_model(settings.encoder), settings.backend, settings.threads);
    prepared.encoder_key = prepared.encoder->key();
  }
  if (plan.kl_windows > 0) prepared.kl_text = text_file("squad_passages.txt", settings);
  if (plan.text_prompts > 0) prepared.prompts = text_file("squad_prompts.jsonl", settings);
  return prepared;
}

}  // namespace narrow::study
