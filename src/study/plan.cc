#include "study/plan.h"

#include <algorithm>
#include <set>

#include "base/data_files.h"
#include "base/error.h"

namespace narrow::study {
namespace {

void refuse_unknown(const Json& object, const std::set<std::string>& known,
                    const std::string& where) {
  if (!object.is_object()) throw Error::refused("expected a mapping", where);
  for (const auto& [key, value] : object.items()) {
    if (!known.count(key)) throw Error::refused("unknown field \"" + key + "\"", where);
  }
}

int64_t count(const Json& object, const char* key, const std::string& where, int64_t fallback,
              int64_t limit) {
  const auto value = json_get<int64_t>(object, key, where, fallback);
  if (value < 0 || value > limit) {
    throw Error::refused(std::string("\"") + key + "\" must be 0 … " + std::to_string(limit),
                         where);
  }
  return value;
}

std::optional<int64_t> optional_count(const Json& object, const char* key,
                                      const std::string& where) {
  const int64_t value = count(object, key, where, 0, 1'000'000);
  return object.contains(key) ? std::optional(value) : std::nullopt;
}

std::vector<std::string> names(const Json& object, const char* key, const std::string& where) {
  auto list = json_get<std::vector<std::string>>(object, key, where, {});
  if (std::set(list.begin(), list.end()).size() != list.size())
    throw Error::refused(std::string("\"") + key + "\" names something twice", where);
  return list;
}

}  // namespace

Plan parse_plan(const Json& document, const std::string& where) {
  refuse_unknown(document,
                 {"name", "model", "formats", "calibration", "tasks", "chat_template", "similarity",
                  "load", "margin_points", "lossless_margin_percent"},
                 where);
  Plan plan;
  plan.name = json_get<std::string>(document, "name", where);
  plan.model = json_get<std::string>(document, "model", where, "");
  plan.formats = names(document, "formats", where);
  if (plan.formats.empty() || plan.formats.front() != "bf16")
    throw Error::refused("\"formats\" must begin with bf16, the baseline", where);
  plan.chat_template = json_get<bool>(document, "chat_template", where, false);
  plan.margin_points = json_get<double>(document, "margin_points", where, 1.0);
  if (!(plan.margin_points > 0 && plan.margin_points <= 100))
    throw Error::refused("\"margin_points\" must be above 0, at most 100", where);
  plan.lossless_margin_percent = json_get<double>(document, "lossless_margin_percent", where, 1.0);
  if (!(plan.lossless_margin_percent > 0 && plan.lossless_margin_percent <= 100))
    throw Error::refused("\"lossless_margin_percent\" must be above 0, at most 100", where);

  const Json calibration = document.value("calibration", Json::object());
  refuse_unknown(calibration, {"samples", "length"}, where + ", calibration");
  plan.calibration_samples = count(calibration, "samples", where, plan.calibration_samples, 100000);
  plan.calibration_length = count(calibration, "length", where, plan.calibration_length, 131072);

  for (const Json& task : document.value("tasks", Json::array())) {
    const std::string task_where = where + ", tasks";
    refuse_unknown(task, {"name", "limit", "shots", "chat_template"}, task_where);
    plan.tasks.push_back({json_get<std::string>(task, "name", task_where),
                          optional_count(task, "limit", task_where),
                          optional_count(task, "shots", task_where), std::nullopt});
    if (task.contains("chat_template"))
      plan.tasks.back().chat_template = json_get<bool>(task, "chat_template", task_where);
  }

  const Json similarity = document.value("similarity", Json::object());
  refuse_unknown(similarity, {"kl", "text"}, where + ", similarity");
  const Json kl = similarity.value("kl", Json::object());
  refuse_unknown(kl, {"windows", "length"}, where + ", similarity.kl");
  plan.kl_windows = count(kl, "windows", where, 0, 100000);
  plan.kl_length = count(kl, "length", where, plan.kl_length, 131072);
  const Json text = similarity.value("text", Json::object());
  refuse_unknown(text, {"prompts", "max_tokens"}, where + ", similarity.text");
  plan.text_prompts = count(text, "prompts", where, 0, 100000);
  plan.text_max_tokens = count(text, "max_tokens", where, plan.text_max_tokens, 131072);

  if (document.contains("load")) {
    const Json& load = document["load"];
    const std::string load_where = where + ", load";
    refuse_unknown(load, {"scenarios", "scale", "sync", "async"}, load_where);
    if (load.contains("scenarios") && load["scenarios"] == "all") {
      plan.scenarios = data_file_names("scenarios");
    } else {
      plan.scenarios = names(load, "scenarios", load_where);
    }
    plan.load_scale = json_get<double>(load, "scale", load_where, 1.0);
    if (!(plan.load_scale > 0 && plan.load_scale <= 1))
      throw Error::refused("\"scale\" must be above 0, at most 1", load_where);
    const Json sync = load.value("sync", Json::object());
    refuse_unknown(sync, {"requests"}, load_where + ".sync");
    plan.sync_requests = count(sync, "requests", load_where, 0, 1'000'000);
    const Json async = load.value("async", Json::object());
    refuse_unknown(async, {"requests"}, load_where + ".async");
    plan.async_requests = count(async, "requests", load_where, 0, 1'000'000);
  }
  return plan;
}

Plan load_plan(const std::string& name_or_path) {
  const auto path = find_data_file("suites", name_or_path);
  return parse_plan(read_yaml(path), path.string());
}

Json Plan::to_json() const {
  Json task_list = Json::array();
  for (const TaskPlan& task : tasks) {
    Json entry{{"name", task.name}};
    if (task.limit) entry["limit"] = *task.limit;
    if (task.shots) entry["shots"] = *task.shots;
    if (task.chat_template) entry["chat_template"] = *task.chat_template;
    task_list.push_back(std::move(entry));
  }
  return {{"name", name},
          {"model", model},
          {"formats", formats},
          {"calibration", {{"samples", calibration_samples}, {"length", calibration_length}}},
          {"tasks", task_list},
          {"chat_template", chat_template},
          {"similarity",
           {{"kl", {{"windows", kl_windows}, {"length", kl_length}}},
            {"text", {{"prompts", text_prompts}, {"max_tokens", text_max_tokens}}}}},
          {"load",
           {{"scenarios", scenarios},
            {"scale", load_scale},
            {"sync", {{"requests", sync_requests}}},
            {"async", {{"requests", async_requests}}}}},
          {"margin_points", margin_points},
          {"lossless_margin_percent", lossless_margin_percent}};
}

}  // namespace narrow::study
