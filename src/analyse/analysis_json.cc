#include "analyse/analysis.h"

namespace narrow::analyse {
namespace {

Json to_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return Json::array({interval->low, interval->high});
}

Json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"interval", to_json(estimate.interval)}};
}

Json to_json(const std::optional<Estimate>& estimate) {
  return estimate ? to_json(*estimate) : Json(nullptr);
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json to_json(const Recovery& recovery) {
  Json json{{"ratio", to_json(recovery.ratio)}, {"above_chance", to_json(recovery.above_chance)}};
  if (!recovery.refusal.empty()) json["refused"] = recovery.refusal;
  return json;
}

Json to_json(const LosslessClaim& claim) {
  Json json{{"shown", claim.shown}, {"loss_bound", claim.bound}};
  if (!claim.shown) json["missing"] = claim.missing;
  return json;
}

Json to_json(const NoiseFloor& noise) {
  Json cells = Json::array();
  for (const RepeatCell& cell : noise.cells)
    cells.push_back({{"name", cell.source.name},
                     {"rows", cell.rows},
                     {"differing", cell.differing},
                     {"scores_differing", cell.scores},
                     {"missing", cell.missing},
                     {"source", cell.source.id}});
  return {{"passed", noise.failure.empty()},
          {"failure", noise.failure},
          {"rows", noise.rows},
          {"differing", noise.differing},
          {"scores_differing", noise.scores},
          {"not_repeated", noise.without},
          {"cells", std::move(cells)}};
}

Json to_json(const Comparison& comparison) {
  return {{"format", comparison.format},
          {"pairs", comparison.pairs},
          {"missing", comparison.missing},
          {"baseline_accuracy", comparison.accuracy_a},
          {"accuracy", comparison.accuracy_b},
          {"difference", to_json(comparison.difference.estimate)},
          {"standard_error", comparison.difference.standard_error},
          {"interval_method", comparison.difference.method},
          {"lost", comparison.lost},
          {"gained", comparison.gained},
          {"lost_share_interval", to_json(std::optional(comparison.lost_share))},
          {"gained_share_interval", to_json(std::optional(comparison.gained_share))},
          {"flip_share_interval", to_json(std::optional(comparison.flip_share))},
          {"answer_changed", to_json(comparison.answer_changed)},
          {"test", comparison.test},
          {"decidable", comparison.decidable},
          {"p", comparison.p},
          {"p_holm", comparison.p_holm},
          {"minimum_detectable", comparison.detectable},
          {"claim", to_string(comparison.claim)},
          {"lossless", to_json(comparison.lossless)},
          {"recovery", to_json(comparison.recovery)},
          {"sources", comparison.sources}};
}

Json to_json(const TaskResult& task) {
  Json scores = Json::array(), comparisons = Json::array();
  for (const Score& score : task.scores)
    scores.push_back({{"format", score.format},
                      {"questions", score.count},
                      {"truncated", score.truncated},
                      {"accuracy", to_json(score.accuracy)},
                      {"standard_error", score.standard_error},
                      {"other_metrics", score.other_metrics},
                      {"sources", score.sources}});
  for (const Comparison& comparison : task.comparisons) comparisons.push_back(to_json(comparison));
  return {{"task", task.task},           {"metric", task.metric}, {"chance", task.chance},
          {"clustered", task.clustered}, {"scores", scores},      {"comparisons", comparisons}};
}

Json to_json(const Latency& latency) {
  return {{"requests", latency.count},
          {"p50", latency.p50},
          {"p50_interval", to_json(latency.p50_interval)},
          {"p90", or_null(latency.p90)},
          {"p99", or_null(latency.p99)},
          {"lowest", latency.low},
          {"highest", latency.high}};
}

Json to_json(const ScenarioResult& scenario) {
  return {{"format", scenario.format},
          {"scenario", scenario.scenario},
          {"mode", to_string(scenario.mode)},
          {"requests", scenario.requests},
          {"failed", scenario.failed},
          {"warmup", scenario.warmup},
          {"prompt_tokens", scenario.prompt_tokens},
          {"output_tokens", scenario.output_tokens},
          {"latency_s", to_json(scenario.e2e)},
          {"ttft_s", to_json(scenario.ttft)},
          {"itl_s", to_json(scenario.itl)},
          {"queries_per_second", scenario.queries_per_second},
          {"output_tokens_per_second", scenario.output_tokens_per_second},
          {"queries_per_dollar", or_null(scenario.queries_per_dollar)},
          {"source", scenario.source}};
}

Json to_json(const FormatSummary& summary) {
  static constexpr const char* kVerdicts[] = {"within", "exceeds", "cannot tell"};
  Json json{{"format", summary.format}, {"loss", kVerdicts[static_cast<int>(summary.loss)]}};
  if (!summary.quantized) return json;
  const QuantizeCell& quantized = *summary.quantized;
  Json layers = Json::array();
  for (const QuantizedLayer& layer : quantized.layers)
    layers.push_back({{"module", layer.module},
                      {"relative_error", layer.relative_error},
                      {"output_error", or_null(layer.output_error)},
                      {"group_size", or_null(layer.group_size)},
                      {"note", layer.note}});
  json["quantized"] = {{"recipe", quantized.recipe},
                       {"checkpoint_bytes", quantized.checkpoint_bytes},
                       {"weight_bytes_per_token", quantized.weight_bytes_per_token},
                       {"bits_per_weight", quantized.bits_per_weight},
                       {"seconds", quantized.seconds},
                       {"calibration", quantized.calibration},
                       {"calibration_tokens", quantized.calibration_tokens},
                       {"notes", quantized.notes},
                       {"layers", std::move(layers)},
                       {"source", quantized.source.id}};
  return json;
}

// Json::array of `make(item)`.
template <class List, class Make>
Json each(const List& list, const Make& make) {
  Json json = Json::array();
  for (const auto& item : list) json.push_back(make(item));
  return json;
}

}  // namespace

Json to_json(const Analysis& analysis) {
  Json json{{"study", analysis.study},
            {"model", analysis.model},
            {"baseline", analysis.baseline},
            {"hardware", analysis.hardware},
            {"price_per_hour", or_null(analysis.price_per_hour)},
            {"margin_points", analysis.margin_points},
            {"lossless_margin", or_null(analysis.lossless_margin)},
            {"max_loss", analysis.max_loss},
            {"resamples", analysis.resamples},
            {"seed", analysis.seed}};
  json["recommendations"] = each(analysis.recommendations, [](const Recommendation& item) {
    return Json{{"traffic", item.traffic},
                {"format", or_null(item.format)},
                {"supported", item.supported},
                {"headline", item.headline},
                {"reasons", item.reasons}};
  });
  json["warnings"] = analysis.warnings;
  json["noise_floor"] = to_json(analysis.noise);
  json["formats"] = each(analysis.formats, [](const FormatSummary& item) { return to_json(item); });
  json["tasks"] = each(analysis.tasks, [](const TaskResult& item) { return to_json(item); });
  json["averages"] = each(analysis.averages, [](const Average& item) {
    return Json{{"format", item.format},
                {"tasks", item.tasks},
                {"baseline_accuracy", item.accuracy_a},
                {"accuracy", item.accuracy_b},
                {"difference", to_json(item.difference)},
                {"minimum_detectable", item.detectable},
                {"claim", to_string(item.claim)},
                {"lossless", to_json(item.lossless)},
                {"pairs", item.pairs},
                {"flips", item.flips},
                {"recovery", to_json(item.recovery)}};
  });
  json["boards"] = each(analysis.boards, [](const Board& board) {
    return Json{{"id", board.id},
                {"title", board.title},
                {"normalized", board.normalized},
                {"columns", board.columns},
                {"left_out", board.left_out},
                {"rows", each(board.rows, [](const BoardRow& row) {
                   return Json{
                       {"format", row.format},
                       {"questions", row.questions},
                       {"columns",
                        each(row.columns, [](const Estimate& column) { return to_json(column); })},
                       {"average", to_json(row.average)},
                       {"difference", to_json(row.difference)},
                       {"recovery", to_json(row.recovery)}};
                 })}};
  });
  json["divergences"] = each(analysis.divergences, [](const Divergence& item) {
    return Json{{"format", item.format},
                {"text", item.text},
                {"windows", item.windows},
                {"positions", item.positions},
                {"mean_kl", to_json(item.mean_kl)},
                {"kl_p99", item.kl_p99},
                {"top1_agreement", to_json(item.top1_agreement)},
                {"perplexity_base", item.perplexity_base},
                {"perplexity", item.perplexity},
                {"perplexity_ratio", to_json(item.perplexity_ratio)},
                {"source", item.source}};
  });
  json["texts"] = each(analysis.texts, [](const TextSimilarity& item) {
    return Json{{"format", item.format},
                {"prompts", item.prompts},
                {"identical", item.identical},
                {"rouge1", to_json(item.rouge1)},
                {"rouge2", to_json(item.rouge2)},
                {"rougeL", to_json(item.rougeL)},
                {"sts", item.sts ? to_json(*item.sts) : Json()},
                {"bertscore", item.bertscore ? to_json(*item.bertscore) : Json()},
                {"median_first_divergence", or_null(item.median_divergence)},
                {"source", item.source}};
  });
  json["scenarios"] =
      each(analysis.scenarios, [](const ScenarioResult& item) { return to_json(item); });
  json["costs"] = each(analysis.costs, [](const CostResult& item) {
    return Json{{"format", item.format},
                {"mode", to_string(item.mode)},
                {"scenarios", item.scenarios},
                {"cheaper_in", item.cheaper_in},
                {"cost_reduction", to_json(item.cost_reduction)},
                {"dollars_per_1000_queries", or_null(item.dollars_per_1000)}};
  });
  json["pareto"] = each(analysis.pareto, [](const ParetoPoint& item) {
    return Json{{"format", item.format},
                {"mode", to_string(item.mode)},
                {"relative_cost", item.relative_cost},
                {"accuracy", item.accuracy},
                {"on_front", item.on_front}};
  });
  json["environments"] = each(analysis.environments, [](const EnvironmentCell& item) {
    return Json{{"format", item.source.format},      {"cpu", item.cpu},
                {"backend", item.backend},           {"threads", item.threads},
                {"memory_bytes", item.memory_bytes}, {"narrow", item.version},
                {"hardware", item.hardware},         {"price_per_hour", item.price_per_hour},
                {"format_notes", item.format_notes}};
  });
  json["plan"] = analysis.plan;
  json["model_fact"] = analysis.model_fact;
  return json;
}

}  // namespace narrow::analyse
