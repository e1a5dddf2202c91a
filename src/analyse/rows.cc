#include "analyse/rows.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace narrow::analyse {
namespace {

// Numbers a row may carry: JSON has no infinity, but a huge literal becomes one.
double finite(double value, const char* key, const std::string& where) {
  if (!std::isfinite(value))
    throw Error::refused(std::string("\"") + key + "\" is not a number", where);
  return value;
}

double number(const Json& row, const char* key, const std::string& where) {
  return finite(json_get<double>(row, key, where), key, where);
}

// Absent or null: 0.
double number_or_zero(const Json& row, const char* key, const std::string& where) {
  return finite(json_get<double>(row, key, where, 0.0), key, where);
}

int64_t count(const Json& row, const char* key, const std::string& where) {
  const auto value = json_get<int64_t>(row, key, where, int64_t{0});
  if (value < 0) throw Error::refused(std::string("\"") + key + "\" is negative", where);
  return value;
}

std::vector<double> numbers(const Json& row, const char* key, const std::string& where) {
  auto values = json_get<std::vector<double>>(row, key, where);
  for (const double value : values) finite(value, key, where);
  return values;
}

std::string text(const Json& row, const char* key, const std::string& where) {
  return json_get<std::string>(row, key, where, std::string());
}

// The choice with the highest log-likelihood per character, which is what acc_norm judges; a row's
// own "answer" is that of the plain sums. Negative when the row does not carry its choices.
int64_t normalized_choice(const Json& data, const std::string& where) {
  const auto choices = data.find("choices"), likelihoods = data.find("loglikelihoods");
  if (choices == data.end() || likelihoods == data.end() || !choices->is_array() ||
      choices->size() != likelihoods->size())
    return -1;
  const auto sums = numbers(data, "loglikelihoods", where);
  int64_t best = -1;
  double highest = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (!(*choices)[i].is_string()) return -1;
    const auto& choice = (*choices)[i].get_ref<const std::string&>();
    const auto characters = std::count_if(choice.begin(), choice.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    });
    const double value = sums[i] / static_cast<double>(std::max<int64_t>(1, characters));
    if (best >= 0 && value <= highest) continue;
    best = static_cast<int64_t>(i);
    highest = value;
  }
  return best;
}

std::map<std::string, std::string> parse_answers(const Json& data, const std::string& where) {
  if (const int64_t choice =
          data["metrics"].contains("acc_norm") ? normalized_choice(data, where) : -1;
      choice >= 0)
    return {{"", std::to_string(choice)}};
  const auto answer = data.find("answer");
  if (answer == data.end()) return {{"", "null"}};
  if (!answer->is_object()) return {{"", to_line(*answer)}};
  std::map<std::string, std::string> answers;
  for (const auto& [filter, value] : answer->items()) answers[filter] = to_line(value);
  return answers;
}

EvalItem parse_item(const store::Row& row, const std::string& where) {
  const Json& data = row.data;
  EvalItem item;
  item.doc_id = json_get<int64_t>(data, "doc_id", where);
  item.subtask = text(data, "subtask", where);
  item.prompt_hash = text(data, "prompt_hash", where);
  item.truncated = text(data, "finish", where) == "length";
  item.cluster = text(data, "cluster", where);
  const auto likelihoods = data.find("loglikelihoods");
  if (likelihoods != data.end() && likelihoods->is_array())
    item.choices = static_cast<int64_t>(likelihoods->size());
  const auto metrics = json_get<Json>(data, "metrics", where);
  if (!metrics.is_object() || metrics.empty())
    throw Error::refused("\"metrics\" is not an object with a metric", where);
  for (const auto& [name, value] : metrics.items()) {
    if (!value.is_number() && !value.is_boolean())
      throw Error::refused("metric \"" + name + "\" is not a number", where);
    const auto score = value.get<double>();
    if (!(score >= 0 && score <= 1))
      throw Error::refused("metric \"" + name + "\" is outside 0 to 1", where);
    item.metrics[name] = score;
  }
  item.answers = parse_answers(data, where);
  return item;
}

DivergenceWindow parse_window(const Json& data, const std::string& where) {
  DivergenceWindow window{numbers(data, "kl", where), numbers(data, "nll_base", where),
                          numbers(data, "nll", where), 0};
  const auto agreements = numbers(data, "top1_agree", where);
  if (window.kl.size() != agreements.size() || window.nll.size() != window.nll_base.size() ||
      window.kl.size() != window.nll.size())
    throw Error::refused("the lists of a window differ in length", where);
  for (const double agree : agreements) window.agreements += agree != 0;
  return window;
}

TextPair parse_pair(const Json& data, const std::string& where) {
  TextPair pair;
  pair.prompt_id = text(data, "prompt_id", where);
  pair.prompt = text(data, "prompt", where);
  pair.base_text = text(data, "base_text", where);
  pair.text = text(data, "text", where);
  pair.rouge1 = number(data, "rouge1", where);
  pair.rouge2 = number(data, "rouge2", where);
  pair.rougeL = number(data, "rougeL", where);
  if (data.contains("sts")) pair.sts = number(data, "sts", where);
  if (data.contains("bertscore_f1")) pair.bertscore = number(data, "bertscore_f1", where);
  const auto divergence = data.find("first_divergence");
  if (divergence != data.end() && !divergence->is_null())
    pair.first_divergence = count(data, "first_divergence", where);
  pair.base_tokens = count(data, "base_tokens", where);
  pair.tokens = count(data, "tokens", where);
  return pair;
}

Request parse_request(const Json& data, const std::string& where) {
  Request request;
  request.prompt_tokens = count(data, "prompt_tokens", where);
  request.output_tokens = count(data, "output_tokens", where);
  request.concurrency = count(data, "concurrency", where);
  request.ok = text(data, "status", where) == "ok";
  request.warmup = json_get<bool>(data, "warmup", where, false);
  request.intended_s = number_or_zero(data, "intended_s", where);
  request.sent_s = number_or_zero(data, "sent_s", where);
  request.ttft_s = number_or_zero(data, "ttft_s", where);
  request.e2e_s = number_or_zero(data, "e2e_s", where);
  if (data.contains("itl_s") && !data["itl_s"].is_null())
    request.itl_s = numbers(data, "itl_s", where);
  if (request.ok && !(request.e2e_s > 0))
    throw Error::refused("a finished request has no \"e2e_s\"", where);
  return request;
}

QuantizeCell parse_quantize(const Source& source, const Json& data, const std::string& where) {
  QuantizeCell cell;
  cell.source = source;
  cell.recipe = text(data, "recipe", where);
  cell.calibration = text(data, "calibration", where);
  cell.calibration_tokens = count(data, "calibration_tokens", where);
  cell.checkpoint_bytes = count(data, "checkpoint_bytes", where);
  cell.weight_bytes_per_token = count(data, "weight_bytes_per_token", where);
  cell.bits_per_weight = number_or_zero(data, "bits_per_weight", where);
  cell.seconds = number_or_zero(data, "seconds", where);
  for (const Json& entry : json_get<Json>(data, "layers", where, Json::array())) {
    QuantizedLayer layer;
    layer.module = json_get<std::string>(entry, "module", where);
    layer.note = text(entry, "note", where);
    layer.relative_error = number_or_zero(entry, "relative_error", where);
    if (entry.contains("output_error") && !entry["output_error"].is_null())
      layer.output_error = number(entry, "output_error", where);
    const int64_t group = count(entry, "group_size", where);
    if (group > 0) layer.group_size = group;
    cell.layers.push_back(std::move(layer));
  }
  cell.notes = json_get<std::vector<std::string>>(data, "notes", where, {});
  return cell;
}

EnvironmentCell parse_environment(const Source& source, const Json& data,
                                  const std::string& where) {
  EnvironmentCell cell;
  cell.source = source;
  cell.cpu = text(data, "cpu", where);
  cell.backend = text(data, "backend", where);
  cell.version = text(data, "narrow", where);
  cell.hardware = text(data, "hardware", where);
  cell.threads = count(data, "threads", where);
  cell.memory_bytes = count(data, "memory_bytes", where);
  cell.price_per_hour = number_or_zero(data, "price_per_hour", where);
  if (cell.price_per_hour < 0) throw Error::refused("\"price_per_hour\" is negative", where);
  return cell;
}

// "mmlu_anatomy" belongs to the plan's "mmlu"; a task the plan does not know stands for itself.
std::string task_of(const std::string& name, const std::vector<std::string>& planned) {
  std::string best;
  for (const std::string& task : planned) {
    const bool member = name == task || (name.starts_with(task) && name.size() > task.size() &&
                                         (name[task.size()] == '_' || name[task.size()] == '/'));
    if (member && task.size() > best.size()) best = task;
  }
  return best.empty() ? name : best;
}

std::vector<std::string> planned_tasks(const Json& plan) {
  std::vector<std::string> names;
  for (const Json& task : json_get<Json>(plan, "tasks", "fact \"plan\"", Json::array()))
    names.push_back(task.is_string() ? task.get<std::string>()
                                     : json_get<std::string>(task, "name", "fact \"plan\""));
  return names;
}

}  // namespace

std::string to_string(Mode mode) { return mode == Mode::sync ? "synchronous" : "asynchronous"; }

StudyRows parse_study(const Json& plan, const Json& model, const std::vector<CellRows>& cells) {
  StudyRows study;
  study.plan = plan;
  study.model = model;
  const auto planned = planned_tasks(plan);
  std::map<std::tuple<std::string, std::string, std::string>, const CellRows*> chosen;
  for (const CellRows& rows : cells) {
    auto& place = chosen[{rows.cell.kind, rows.cell.format, rows.cell.name}];
    if (place == nullptr || rows.finished || !place->finished) place = &rows;
  }
  for (const CellRows& cell_rows : cells) {
    if (chosen[{cell_rows.cell.kind, cell_rows.cell.format, cell_rows.cell.name}] != &cell_rows) {
      ++study.superseded;
      continue;
    }
    const store::Cell& cell = cell_rows.cell;
    const Source source{cell.format, cell.name, cell.id().substr(0, 12), cell_rows.finished};
    const auto where = [&](const store::Row& row) {
      return "cell " + cell.kind + " " + cell.format + " " + cell.name + ", row " +
             std::to_string(row.index);
    };
    if (cell.kind == "eval") {
      EvalCell eval{source, task_of(cell.name, planned), {}};
      for (const store::Row& row : cell_rows.rows)
        eval.items.push_back(parse_item(row, where(row)));
      study.evals.push_back(std::move(eval));
    } else if (cell.kind == "similarity" && cell.name.starts_with("kl/")) {
      DivergenceCell divergence{source, cell.name.substr(3), {}};
      for (const store::Row& row : cell_rows.rows)
        divergence.windows.push_back(parse_window(row.data, where(row)));
      study.divergences.push_back(std::move(divergence));
    } else if (cell.kind == "similarity" && cell.name == "text") {
      TextCell texts{source, {}};
      for (const store::Row& row : cell_rows.rows)
        texts.pairs.push_back(parse_pair(row.data, where(row)));
      study.texts.push_back(std::move(texts));
    } else if (cell.kind == "load") {
      const size_t slash = cell.name.rfind('/');
      const std::string mode = slash == std::string::npos ? "" : cell.name.substr(slash + 1);
      if (mode != "sync" && mode != "async")
        throw Error::refused("a load cell's name does not end in /sync or /async",
                             "cell load " + cell.format + " " + cell.name);
      LoadCell load{
          source, cell.name.substr(0, slash), mode == "sync" ? Mode::sync : Mode::async, {}};
      for (const store::Row& row : cell_rows.rows)
        load.requests.push_back(parse_request(row.data, where(row)));
      study.loads.push_back(std::move(load));
    } else if (cell.kind == "quantize") {
      for (const store::Row& row : cell_rows.rows)
        study.quantized.push_back(parse_quantize(source, row.data, where(row)));
    } else if (cell.kind == "environment") {
      for (const store::Row& row : cell_rows.rows)
        study.environments.push_back(parse_environment(source, row.data, where(row)));
    }
  }
  return study;
}

StudyRows load_study(const store::Store& store) {
  std::vector<CellRows> cells;
  for (store::Cell& cell : store.cells()) {
    CellRows rows{cell, store.finished(cell), store.rows(cell)};
    cells.push_back(std::move(rows));
  }
  return parse_study(store.fact("plan").value_or(Json()), store.fact("model").value_or(Json()),
                     cells);
}

}  // namespace narrow::analyse
