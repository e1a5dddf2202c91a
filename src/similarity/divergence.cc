#include "similarity/divergence.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "text/utf8.h"

namespace narrow::similarity {
namespace {

// Of a window at a time: at a vocabulary of 150 000 their logits are 150 MB of each model.
constexpr int64_t kRows = 256;

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

void measure_divergence(model::Decoder& base, model::Decoder& variant,
                        std::optional<DType> kv_dtype, const TextWindows& text,
                        const std::set<int64_t>& done, const RowSink& sink) {
  if (base.config().vocabulary != variant.config().vocabulary)
    throw Error::refused("the two models have different vocabularies");
  if (&base.backend() != &variant.backend())
    throw Error::failed("logits of two backends cannot be compared");
  size_t longest = 0;
  for (const auto& window : text.windows) longest = std::max(longest, window.size());
  const int64_t blocks =
      (static_cast<int64_t>(longest) + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens;
  model::KvCache base_kv(base.config(), base.backend(), blocks, kv_dtype);
  model::KvCache variant_kv(variant.config(), variant.backend(), blocks, kv_dtype);
  const int64_t most_rows = std::min({kRows, base.max_rows(), variant.max_rows()});
  for (size_t w = 0; w < text.windows.size(); ++w) {
    const auto index = static_cast<int64_t>(w);
    if (done.contains(index)) continue;
    const std::span<const int32_t> ids = text.windows[w];
    Json kl = Json::array(), agree = Json::array(), base_nll = Json::array(), nll = Json::array();
    // Nothing is predicted after the last token.
    const auto positions = static_cast<int64_t>(ids.size()) - 1;
    for (int64_t first = 0; first < positions; first += most_rows) {
      throw_if_interrupted();
      const int64_t rows = std::min(most_rows, positions - first);
      std::vector<int32_t> all(static_cast<size_t>(rows));
      std::iota(all.begin(), all.end(), 0);
      const auto begin = ids.begin() + first;
      const ops::Batch step = ops::single_sequence({begin, begin + rows}, first);
      const ops::Matrix p = base.enqueue(step, base_kv, all);
      const ops::Matrix q = variant.enqueue(step, variant_kv, all);
      const auto divergences = base.backend().compare_logits(
          p, q, ids.subspan(static_cast<size_t>(first + 1), static_cast<size_t>(rows)));
      for (const ops::LogitDivergence& of : divergences) {
        kl.push_back(of.kl);
        agree.push_back(of.same_argmax ? 1 : 0);
        base_nll.push_back(of.nll_p);
        nll.push_back(of.nll_q);
      }
    }
    sink(index, {{"window", index},
                 {"positions", std::max<int64_t>(0, positions)},
                 {"kl", std::move(kl)},
                 {"top1_agree", std::move(agree)},
                 {"nll_base", std::move(base_nll)},
                 {"nll", std::move(nll)}});
  }
}

}  // namespace narrow::similarity
