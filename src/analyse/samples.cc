#include "analyse/samples.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "analyse/accuracy.h"
#include "analyse/rows.h"

namespace narrow::analyse {
namespace {

// One pair, known by where its rows lie.
struct Pick {
  const EvalItem *base = nullptr, *variant = nullptr;
  size_t base_cell = 0, variant_cell = 0;
  Flip flip = Flip::none;
  double divergence = 0;
};

std::vector<double> probabilities(const std::vector<double>& loglikelihoods) {
  if (loglikelihoods.empty()) return {};
  const double highest = *std::max_element(loglikelihoods.begin(), loglikelihoods.end());
  std::vector<double> shares;
  double sum = 0;
  for (const double value : loglikelihoods) sum += shares.emplace_back(std::exp(value - highest));
  for (double& share : shares) share /= sum;
  return shares;
}

double choice_divergence(const std::vector<double>& base, const std::vector<double>& variant) {
  const auto a = probabilities(base), b = probabilities(variant);
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

double text_divergence(const std::string& base, const std::string& variant) {
  const size_t longest = std::max(base.size(), variant.size());
  if (longest == 0) return 0;
  size_t same = 0;
  while (same < base.size() && same < variant.size() && base[same] == variant[same]) ++same;
  return 1 - static_cast<double>(same) / static_cast<double>(longest);
}

Flip flip_of(const EvalItem& base, const EvalItem& variant, const std::string& metric) {
  const bool was = score_of(base, metric) >= 0.5, is = score_of(variant, metric) >= 0.5;
  if (was != is) return was ? Flip::lost : Flip::gained;
  return answer_of(base, metric) == answer_of(variant, metric) ? Flip::none : Flip::changed;
}

// Lost and gained in turn, then changed answers, then the rest; each by divergence. Ties keep the
// order of the rows.
std::vector<Pick> choose(std::vector<Pick> picks) {
  std::stable_sort(picks.begin(), picks.end(),
                   [](const Pick& a, const Pick& b) { return a.divergence > b.divergence; });
  std::vector<Pick> by_flip[4], chosen;
  for (const Pick& pick : picks) by_flip[static_cast<int>(pick.flip)].push_back(pick);
  const auto& lost = by_flip[static_cast<int>(Flip::lost)];
  const auto& gained = by_flip[static_cast<int>(Flip::gained)];
  for (size_t i = 0; i < std::max(lost.size(), gained.size()); ++i) {
    if (i < lost.size()) chosen.push_back(lost[i]);
    if (i < gained.size()) chosen.push_back(gained[i]);
  }
  for (const Flip flip : {Flip::changed, Flip::none})
    chosen.insert(chosen.end(), by_flip[static_cast<int>(flip)].begin(),
                  by_flip[static_cast<int>(flip)].end());
  if (chosen.size() > kSamplesPerGroup) chosen.resize(kSamplesPerGroup);
  return chosen;
}

// A text or a list of texts; anything else reads as none.
std::vector<std::string> texts(const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end()) return {};
  if (found->is_string()) return {found->get<std::string>()};
  std::vector<std::string> list;
  if (found->is_array())
    for (const Json& entry : *found)
      list.push_back(entry.is_string() ? entry.get<std::string>() : to_line(entry));
  return list;
}

std::string text_or_line(const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null()) return {};
  return found->is_string() ? found->get<std::string>() : to_line(*found);
}

}  // namespace

std::string to_string(Flip flip) {
  static constexpr const char* kNames[] = {"right to wrong", "wrong to right",
                                           "wrong to other wrong", "same answer"};
  return kNames[static_cast<int>(flip)];
}

Samples collect_samples(const std::vector<EvalCell>& evals, const std::string& baseline,
                        const std::function<std::vector<store::Row>(size_t cell)>& rows_of) {
  using Question = std::tuple<std::string, std::string, int64_t>;  // cell's name, subtask, number
  std::map<Question, std::pair<const EvalItem*, size_t>> base_items;
  std::vector<std::pair<std::string, std::string>> groups;  // task, format: in order
  std::map<std::pair<std::string, std::string>, std::vector<Pick>> picks;
  for (size_t c = 0; c < evals.size(); ++c)
    if (evals[c].source.format == baseline)
      for (const EvalItem& item : evals[c].items)
        base_items[{evals[c].source.name, item.subtask, item.doc_id}] = {&item, c};
  std::map<std::string, std::string> metrics;  // by task, the baseline's
  for (size_t c = 0; c < evals.size(); ++c) {
    const EvalCell& cell = evals[c];
    if (cell.source.format == baseline) {
      if (!cell.items.empty()) metrics.try_emplace(cell.task, headline_metric(cell.items.front()));
      continue;
    }
    for (const EvalItem& item : cell.items) {
      const auto base = base_items.find({cell.source.name, item.subtask, item.doc_id});
      if (base == base_items.end() || base->second.first->prompt_hash != item.prompt_hash) continue;
      const EvalItem& before = *base->second.first;
      const auto metric = metrics.try_emplace(cell.task, headline_metric(before)).first;
      const auto group = std::pair(cell.task, cell.source.format);
      if (!picks.contains(group)) groups.push_back(group);
      picks[group].push_back({&before, &item, base->second.second, c,
                              flip_of(before, item, metric->second),
                              choice_divergence(before.loglikelihoods, item.loglikelihoods)});
    }
  }

  Samples samples;
  // Rows that are wanted, by cell: where the sample's texts go.
  struct Wanted {
    size_t sample;
    bool base;
  };
  std::map<size_t, std::multimap<int64_t, Wanted>> wanted;
  for (const auto& group : groups) {
    SampleCount count{group.first, group.second};
    for (const Pick& pick : picks[group]) {
      ++count.pairs;
      count.lost += pick.flip == Flip::lost;
      count.gained += pick.flip == Flip::gained;
      count.changed += pick.flip == Flip::changed;
    }
    const std::string& metric = metrics.at(group.first);
    for (const Pick& pick : choose(std::move(picks[group]))) {
      Sample sample;
      sample.task = group.first;
      sample.format = group.second;
      sample.metric = metric;
      sample.subtask = pick.base->subtask;
      // Cells of one task (the subjects of MMLU) may stand in the subtasks' place.
      const std::string& cell = evals[pick.base_cell].source.name;
      if (sample.subtask.empty() && cell != group.first) sample.subtask = cell;
      sample.doc_id = pick.base->doc_id;
      sample.flip = pick.flip;
      sample.divergence = pick.divergence;
      sample.score_base = score_of(*pick.base, metric);
      sample.score = score_of(*pick.variant, metric);
      sample.loglikelihoods_base = pick.base->loglikelihoods;
      sample.loglikelihoods = pick.variant->loglikelihoods;
      sample.extracted_base = answer_of(*pick.base, metric);
      sample.extracted = answer_of(*pick.variant, metric);
      wanted[pick.base_cell].insert({pick.base->index, {samples.list.size(), true}});
      wanted[pick.variant_cell].insert({pick.variant->index, {samples.list.size(), false}});
      samples.list.push_back(std::move(sample));
      ++count.chosen;
    }
    samples.counts.push_back(std::move(count));
  }
  for (const auto& [cell, places] : wanted)
    for (const store::Row& row : rows_of(cell)) {
      const auto [begin, end] = places.equal_range(row.index);
      for (auto place = begin; place != end; ++place) {
        Sample& sample = samples.list[place->second.sample];
        (place->second.base ? sample.response_base : sample.response) =
            text_or_line(row.data, "response");
        if (!place->second.base) continue;
        sample.contexts = texts(row.data, "prompt");
        if (sample.contexts.size() > 1) sample.continuations = texts(row.data, "continuations");
        sample.choices = texts(row.data, "choices");
        sample.target = text_or_line(row.data, "target");
      }
    }
  for (Sample& sample : samples.list)
    if (sample.loglikelihoods_base.empty())
      sample.divergence = text_divergence(sample.response_base, sample.response);
  return samples;
}

}  // namespace narrow::analyse
