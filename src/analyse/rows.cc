#include "analyse/rows.h"

#include <algorithm>
#include <cmath>
#include <functional>
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
  item.index = row.index;
  item.doc_id = json_get<int64_t>(data, "doc_id", where);
  item.subtask = text(data, "subtask", where);
  item.prompt_hash = text(data, "prompt_hash", where);
  item.truncated = text(data, "finish", where) == "length";
  item.cluster = text(data, "cluster", where);
  const auto likelihoods = data.find("loglikelihoods");
  if (likelihoods != data.end() && likelihoods->is_array()) {
    item.loglikelihoods = numbers(data, "loglikelihoods", where);
    item.choices = static_cast<int64_t>(item.loglikelihoods.size());
  }
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
  cell.format_notes = json_get<std::map<std::string, std::string>>(data, "format_notes", where, {});
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

using RowsOf = std::function<std::vector<store::Row>(size_t cell)>;

// The rows of a cell and of its second run, one against one.
RepeatCell compare_repeat(const Source& source, const std::vector<store::Row>& first,
                          const std::vector<store::Row>& again) {
  RepeatCell result{source};
  std::map<int64_t, const Json*> before;
  for (const store::Row& row : first) before[row.index] = &row.data;
  for (const store::Row& row : again) {
    const auto found = before.find(row.index);
    if (found == before.end()) {
      ++result.missing;
      continue;
    }
    ++result.rows;
    const Json& a = *found->second;
    result.differing += to_line(a) != to_line(row.data);
    const auto metrics = [](const Json& data) {
      const auto entry = data.find("metrics");
      return entry == data.end() ? Json() : *entry;
    };
    result.scores += metrics(a) != metrics(row.data);
    before.erase(found);
  }
  result.missing += static_cast<int64_t>(before.size());
  return result;
}

void add_load(const Source& source, const std::vector<store::Row>& rows, const auto& where,
              StudyRows& study) {
  const size_t slash = source.name.rfind('/');
  const std::string mode = slash == std::string::npos ? "" : source.name.substr(slash + 1);
  if (mode != "sync" && mode != "async")
    throw Error::refused("a load cell's name does not end in /sync or /async",
                         "cell load " + source.format + " " + source.name);
  LoadCell load{
      source, source.name.substr(0, slash), mode == "sync" ? Mode::sync : Mode::async, {}};
  for (const store::Row& row : rows) load.requests.push_back(parse_request(row.data, where(row)));
  study.loads.push_back(std::move(load));
}

// cells: without rows. rows_of answers those of cells[i].
StudyRows parse(const Json& plan, const Json& model, const std::vector<CellRows>& cells,
                const RowsOf& rows_of) {
  StudyRows study;
  study.plan = plan;
  study.model = model;
  const auto planned = planned_tasks(plan);
  using Name = std::tuple<std::string, std::string, std::string>;
  std::map<Name, size_t> chosen;
  const auto name_of = [](const store::Cell& cell) {
    return Name(cell.kind, cell.format, cell.name);
  };
  for (size_t i = 0; i < cells.size(); ++i) {
    const auto [place, fresh] = chosen.try_emplace(name_of(cells[i].cell), i);
    if (!fresh && (cells[i].finished || !cells[place->second].finished)) place->second = i;
  }
  std::vector<size_t> eval_cells;  // of study.evals
  for (size_t i = 0; i < cells.size(); ++i) {
    const store::Cell& cell = cells[i].cell;
    if (chosen.at(name_of(cell)) != i) {
      ++study.superseded;
      continue;
    }
    const Source source{cell.format, cell.name, cell.id().substr(0, 12), cells[i].finished};
    const auto where = [&](const store::Row& row) {
      return "cell " + cell.kind + " " + cell.format + " " + cell.name + ", row " +
             std::to_string(row.index);
    };
    const std::vector<store::Row> rows = rows_of(i);
    if (cell.kind == "eval") {
      EvalCell eval{source, task_of(cell.name, planned), {}};
      for (const store::Row& row : rows) eval.items.push_back(parse_item(row, where(row)));
      study.evals.push_back(std::move(eval));
      eval_cells.push_back(i);
    } else if (cell.kind == "repeat") {
      const bool answers = cell.name == "text";
      const auto first = chosen.find(Name(answers ? "answers" : "eval", cell.format, cell.name));
      study.repeats.push_back(compare_repeat(
          source, first == chosen.end() ? std::vector<store::Row>() : rows_of(first->second),
          rows));
    } else if (cell.kind == "answers") {
      study.answered.push_back(cell.format);
    } else if (cell.kind == "similarity" && cell.name.starts_with("kl/")) {
      DivergenceCell divergence{source, cell.name.substr(3), {}};
      for (const store::Row& row : rows)
        divergence.windows.push_back(parse_window(row.data, where(row)));
      study.divergences.push_back(std::move(divergence));
    } else if (cell.kind == "similarity" && cell.name == "text") {
      TextCell texts{source, {}};
      for (const store::Row& row : rows) texts.pairs.push_back(parse_pair(row.data, where(row)));
      study.texts.push_back(std::move(texts));
    } else if (cell.kind == "load") {
      add_load(source, rows, where, study);
    } else if (cell.kind == "quantize") {
      for (const store::Row& row : rows)
        study.quantized.push_back(parse_quantize(source, row.data, where(row)));
    } else if (cell.kind == "environment") {
      for (const store::Row& row : rows)
        study.environments.push_back(parse_environment(source, row.data, where(row)));
    }
  }
  study.samples = collect_samples(study.evals, baseline_of(plan),
                                  [&](size_t eval) { return rows_of(eval_cells[eval]); });
  return study;
}

}  // namespace

std::string to_string(Mode mode) { return mode == Mode::sync ? "synchronous" : "asynchronous"; }

std::string baseline_of(const Json& plan) {
  const auto formats = json_get<std::vector<std::string>>(plan, "formats", "fact \"plan\"", {});
  return formats.empty() ? "bf16" : formats.front();
}

StudyRows parse_study(const Json& plan, const Json& model, const std::vector<CellRows>& cells) {
  return parse(plan, model, cells, [&](size_t cell) { return cells[cell].rows; });
}

StudyRows load_study(const store::Store& store) {
  std::vector<CellRows> cells;
  for (const store::Cell& cell : store.cells()) cells.push_back({cell, store.finished(cell), {}});
  return parse(store.fact("plan").value_or(Json()), store.fact("model").value_or(Json()), cells,
               [&](size_t cell) { return store.rows(cells[cell].cell); });
}

}  // namespace narrow::analyse
