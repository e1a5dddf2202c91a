#include "analyse/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

constexpr size_t kSamples = 4;  // pairs of texts shown side by side

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

Divergence divergence_of(const DivergenceCell& cell, const Options& options) {
  Divergence result;
  result.format = cell.source.format;
  result.text = cell.text;
  result.source = cell.source.id;
  result.windows = static_cast<int64_t>(cell.windows.size());
  std::vector<double> kl, agreements, growth, positions, every;
  double nll_base = 0, nll = 0;
  for (const DivergenceWindow& window : cell.windows) {
    kl.push_back(sum(window.kl));
    agreements.push_back(static_cast<double>(window.agreements));
    growth.push_back(sum(window.nll) - sum(window.nll_base));
    positions.push_back(static_cast<double>(window.kl.size()));
    nll_base += sum(window.nll_base);
    nll += sum(window.nll);
    every.insert(every.end(), window.kl.begin(), window.kl.end());
  }
  result.positions = static_cast<int64_t>(every.size());
  std::sort(every.begin(), every.end());
  result.kl_p99 = quantile_of_sorted(every, 0.99);
  const auto count = static_cast<double>(every.size());
  result.perplexity_base = std::exp(nll_base / count);
  result.perplexity = std::exp(nll / count);
  // Every format sees the same windows: one seed draws the same ones for all.
  const uint64_t seed = seed_for(options.seed, cell.text);
  result.mean_kl = block_ratio(kl, positions, options.resamples, seed);
  result.top1_agreement = block_ratio(agreements, positions, options.resamples, seed);
  // The ratio of perplexities is the exponential of the mean growth; so are its ends.
  const Estimate log_ratio = block_ratio(growth, positions, options.resamples, seed);
  result.perplexity_ratio.value = std::exp(log_ratio.value);
  if (log_ratio.interval)
    result.perplexity_ratio.interval = {std::exp(log_ratio.interval->low),
                                        std::exp(log_ratio.interval->high)};
  return result;
}

TextSimilarity similarity_of(const TextCell& cell, const Options& options) {
  TextSimilarity result;
  result.format = cell.source.format;
  result.source = cell.source.id;
  result.prompts = static_cast<int64_t>(cell.pairs.size());
  const std::vector<double> ones(cell.pairs.size(), 1.0);
  const uint64_t seed = seed_for(options.seed, "text");
  const auto estimate = [&](double TextPair::*score) {
    std::vector<double> values;
    for (const TextPair& pair : cell.pairs) values.push_back(pair.*score);
    return block_ratio(values, ones, options.resamples, seed);
  };
  result.rouge1 = estimate(&TextPair::rouge1);
  result.rouge2 = estimate(&TextPair::rouge2);
  result.rougeL = estimate(&TextPair::rougeL);
  const auto estimate_if_all =
      [&](std::optional<double> TextPair::*score) -> std::optional<Estimate> {
    std::vector<double> values;
    for (const TextPair& pair : cell.pairs) {
      if (!(pair.*score)) return std::nullopt;
      values.push_back(*(pair.*score));
    }
    return block_ratio(values, ones, options.resamples, seed);
  };
  result.sts = estimate_if_all(&TextPair::sts);
  result.bertscore = estimate_if_all(&TextPair::bertscore);

  std::vector<double> divergences;
  std::vector<const TextPair*> diverging;
  for (const TextPair& pair : cell.pairs) {
    if (!pair.first_divergence) {
      ++result.identical;
      continue;
    }
    divergences.push_back(static_cast<double>(*pair.first_divergence));
    diverging.push_back(&pair);
  }
  std::sort(divergences.begin(), divergences.end());
  if (!divergences.empty()) result.median_divergence = quantile_of_sorted(divergences, 0.5);
  std::stable_sort(diverging.begin(), diverging.end(), [](const TextPair* a, const TextPair* b) {
    return *a->first_divergence < *b->first_divergence;
  });
  if (diverging.size() > kSamples) diverging.resize(kSamples);
  for (const TextPair* pair : diverging) result.samples.push_back(*pair);
  return result;
}

}  // namespace

std::vector<Divergence> analyse_divergence(const StudyRows& rows,
                                           const std::vector<std::string>& formats,
                                           const Options& options) {
  std::vector<Divergence> results;
  for (const std::string& format : formats)
    for (const DivergenceCell& cell : rows.divergences) {
      const bool some = std::any_of(cell.windows.begin(), cell.windows.end(),
                                    [](const auto& window) { return !window.kl.empty(); });
      if (cell.source.format == format && some) results.push_back(divergence_of(cell, options));
    }
  return results;
}

std::vector<TextSimilarity> analyse_texts(const StudyRows& rows,
                                          const std::vector<std::string>& formats,
                                          const Options& options) {
  std::vector<TextSimilarity> results;
  for (const std::string& format : formats)
    for (const TextCell& cell : rows.texts)
      if (cell.source.format == format && !cell.pairs.empty())
        results.push_back(similarity_of(cell, options));
  return results;
}

}  // namespace narrow::analyse
