#include "similarity/bertscore.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "similarity/sts.h"
#include "text/bert_text.h"

namespace narrow::similarity {
namespace {

struct KnownLayer {
  const char* name;
  int64_t layer;
};

// bert_score's model2layers, of the models of the two families read here.
constexpr KnownLayer kLayers[] = {
    {"bert-base-uncased", 9},
    {"bert-large-uncased", 18},
    {"bert-base-cased-finetuned-mrpc", 9},
    {"bert-base-multilingual-cased", 9},
    {"bert-base-chinese", 8},
    {"roberta-base", 10},
    {"roberta-large", 17},
    {"roberta-large-mnli", 19},
    {"roberta-base-openai-detector", 7},
    {"roberta-large-openai-detector", 15},
    {"distilroberta-base", 5},
    {"scibert_scivocab_uncased", 8},
    {"scibert_scivocab_cased", 9},
    {"scibert_basevocab_uncased", 9},
    {"spanbert-base-cased", 8},
    {"spanbert-large-cased", 17},
    {"finbert", 10},
    {"bert-base-turkish-cased", 10},
    {"unsup-simcse-bert-base-uncased", 10},
    {"unsup-simcse-bert-large-uncased", 18},
    {"unsup-simcse-roberta-base", 8},
    {"unsup-simcse-roberta-large", 13},
    {"sup-simcse-bert-base-uncased", 10},
    {"sup-simcse-bert-large-uncased", 18},
    {"sup-simcse-roberta-base", 10},
    {"sup-simcse-roberta-large", 16},
};

// What Python's str.strip takes off: white space and the four separators below it.
size_t python_blank(std::string_view text) {
  if (!text.empty() && text[0] >= 0x1C && text[0] <= 0x1F) return 1;
  return text::blank_length(text);
}

std::string_view python_strip(std::string_view text) {
  while (const size_t blank = python_blank(text)) text.remove_prefix(blank);
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (python_blank(text.substr(start)) != text.size() - start) break;
    text = text.substr(0, start);
  }
  return text;
}

double weighted_mean(const std::vector<double>& values, const std::vector<double>& weights) {
  double sum = 0, total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += weights[i] * values[i];
    total += weights[i];
  }
  return total == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / total;
}

}  // namespace

std::optional<int64_t> bertscore_layer(const std::string& name) {
  for (const auto& [known, layer] : kLayers)
    if (name == known) return layer;
  return std::nullopt;
}

BertScorer::BertScorer(TextEncoder& encoder, std::optional<int64_t> layer) : encoder_(encoder) {
  const int64_t layers = encoder.model().config().layers;
  const auto known = bertscore_layer(encoder.checkpoint().name());
  layer_ = layer ? *layer : known && *known <= layers ? *known : layers;
  if (layer_ < 0 || layer_ > layers)
    throw Error::refused(
        "no layer " + std::to_string(layer_) + ", the encoder has " + std::to_string(layers),
        encoder.checkpoint().path().string());
}

void BertScorer::weigh_by_rarity(const std::vector<std::string>& references) {
  references_ = static_cast<int64_t>(references.size());
  holders_.clear();
  for (const std::string& reference : references) {
    const auto ids = encode(reference);
    for (const int32_t id : std::set<int32_t>(ids.begin(), ids.end())) ++holders_[id];
  }
}

double BertScorer::weight(int32_t id) const {
  if (!references_) return encoder_.is_frame(id) ? 0 : 1;
  const auto found = holders_.find(id);
  const int64_t holders = found == holders_.end() ? 0 : found->second;
  return std::log(static_cast<double>(*references_ + 1) / static_cast<double>(holders + 1));
}

std::vector<int32_t> BertScorer::encode(std::string_view text) const {
  std::string stripped(python_strip(text));
  // bert_score encodes for RoBERTa as if a blank stood before the text.
  if (!stripped.empty() &&
      encoder_.checkpoint().config().family == checkpoint::EncoderConfig::Family::roberta)
    stripped.insert(0, " ");
  return encoder_.encode(stripped, encoder_.checkpoint().model_tokens());
}

BertScorer::Encoded BertScorer::represent(std::string_view text) {
  Encoded encoded{encode(text), {}};
  encoded.states = encoder_.model().forward(encoded.ids, layer_);
  const auto rows = encoded.states.matrix<float>();
  for (int64_t t = 0; t < rows.rows; ++t) {
    double squares = 0;
    for (float value : rows.row(t)) squares += static_cast<double>(value) * value;
    const double length = std::sqrt(squares);
    for (float& value : rows.row(t)) value = static_cast<float>(value / length);
  }
  return encoded;
}

BertScore BertScorer::score(std::string_view reference, std::string_view candidate) {
  const Encoded r = represent(reference), c = represent(candidate);
  // Only begin and end.
  if (r.ids.size() == 2 || c.ids.size() == 2) return {};
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  std::vector<double> best_r(r.ids.size(), kNone), best_c(c.ids.size(), kNone), weight_r, weight_c;
  const auto reference_rows = r.states.matrix<float>(), candidate_rows = c.states.matrix<float>();
  for (size_t i = 0; i < c.ids.size(); ++i) {
    const auto a = candidate_rows.row(static_cast<int64_t>(i));
    for (size_t j = 0; j < r.ids.size(); ++j) {
      const double similarity = cosine(a, reference_rows.row(static_cast<int64_t>(j)));
      best_c[i] = std::max(best_c[i], similarity);
      best_r[j] = std::max(best_r[j], similarity);
    }
  }
  for (const int32_t id : r.ids) weight_r.push_back(weight(id));
  for (const int32_t id : c.ids) weight_c.push_back(weight(id));
  BertScore score{weighted_mean(best_c, weight_c), weighted_mean(best_r, weight_r), 0};
  const double f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
  score.f1 = std::isnan(f1) ? 0 : f1;
  return score;
}

}  // namespace narrow::similarity
