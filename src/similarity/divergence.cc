#include "similarity/divergence.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "text/utf8.h"

namespace narrow::similarity {
namespace {

// First place of the largest logit, and the log of the sum of exponentials.
struct Summary {
  int64_t best = 0;
  double normalizer = 0;
};

Summary summarize(std::span<const float> logits) {
  Summary summary;
  summary.best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const float largest = logits[static_cast<size_t>(summary.best)];
  double total = 0;
  for (float logit : logits) total += std::exp(logit - largest);
  summary.normalizer = largest + std::log(total);
  return summary;
}

// Of one position, whose next token is `next`. p: the base's logits, q: the variant's.
struct Position {
  double kl = 0, nll_base = 0, nll = 0;
  bool agree = false;
};

Position compare(std::span<const float> p, std::span<const float> q, size_t next) {
  const Summary of_p = summarize(p), of_q = summarize(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - of_p.normalizer;
    sum += std::exp(static_cast<float>(log_p)) * (log_p - (q[i] - of_q.normalizer));
  }
  return {sum, of_p.normalizer - p[next], of_q.normalizer - q[next], of_p.best == of_q.best};
}

}  // namespace

std::string TextWindows::hash() const {
  Sha256 hash;
  for (const auto& window : windows) {
    hash.add(std::as_bytes(std::span(window)));
    hash.add("\n");
  }
  return hash.hex();
}

std::string read_characters(const std::string& file, int64_t characters) {
  const std::string bytes = read_text_maybe_gz(file);
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '\r') {
      text += bytes[i];
    } else if (i + 1 == bytes.size() || bytes[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (characters == 0) return text;
  size_t at = 0;
  for (int64_t i = 0; i < characters && at < text.size(); ++i)
    at += std::max<size_t>(1, text::character_length(std::string_view(text).substr(at)));
  text.resize(std::min(at, text.size()));
  return text;
}

TextWindows read_windows(const std::string& file, const text::Tokenizer& tokenizer, int64_t count,
                         int64_t length, int64_t characters) {
  const std::string text = read_characters(file, characters);
  const auto ids = tokenizer.encode(text, {});
  const auto have = static_cast<int64_t>(ids.size()) / length;
  if (have < count)
    throw Error::refused("the text fills " + std::to_string(have) + " windows of " +
                             std::to_string(length) + " tokens, " + std::to_string(count) +
                             " are wanted",
                         file);
  TextWindows result;
  result.name = std::filesystem::path(file).stem().string();
  for (int64_t w = 0; w < count; ++w)
    result.windows.emplace_back(ids.begin() + w * length, ids.begin() + (w + 1) * length);
  return result;
}

void measure_divergence(model::Decoder& base, model::Decoder& variant, const TextWindows& text,
                        const std::set<int64_t>& done, ThreadPool& pool, const RowSink& sink) {
  if (base.config().vocabulary != variant.config().vocabulary)
    throw Error::refused("the two models have different vocabularies");
  for (size_t w = 0; w < text.windows.size(); ++w) {
    throw_if_interrupted();
    const auto index = static_cast<int64_t>(w);
    if (done.contains(index)) continue;
    const auto& ids = text.windows[w];
    // The base's logits of a whole window: 512 positions of a 150 000 vocabulary are 300 MB.
    std::vector<std::vector<float>> base_logits;
    model::for_each_logits(base, ids, [&](int64_t, View<const float> logits) {
      for (int64_t r = 0; r < logits.rows; ++r)
        base_logits.emplace_back(logits.row(r).begin(), logits.row(r).end());
    });
    Json kl = Json::array(), agree = Json::array(), base_nll = Json::array(), nll = Json::array();
    model::for_each_logits(variant, ids, [&](int64_t first, View<const float> logits) {
      // Nothing is predicted after the last token.
      const int64_t count = std::min(logits.rows, static_cast<int64_t>(ids.size()) - 1 - first);
      std::vector<Position> positions(static_cast<size_t>(std::max<int64_t>(count, 0)));
      pool.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const auto at = static_cast<size_t>(first + r);
          positions[static_cast<size_t>(r)] =
              compare(base_logits[at], logits.row(r), static_cast<size_t>(ids[at + 1]));
        }
      });
      for (const Position& position : positions) {
        kl.push_back(position.kl);
        agree.push_back(position.agree ? 1 : 0);
        base_nll.push_back(position.nll_base);
        nll.push_back(position.nll);
      }
    });
    const auto positions = static_cast<int64_t>(kl.size());
    sink(index, {{"window", index},
                 {"positions", positions},
                 {"kl", std::move(kl)},
                 {"top1_agree", std::move(agree)},
                 {"nll_base", std::move(base_nll)},
                 {"nll", std::move(nll)}});
  }
}

}  // namespace narrow::similarity
