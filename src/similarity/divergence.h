// How far the next-token distributions of a variant lie from those of the base model, position by
// position, over windows of a text.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace narrow::similarity {

struct TextWindows {
  std::string name;  // "squad_passages"
  std::vector<std::vector<int32_t>> windows;

  std::string hash() const;  // SHA-256 of the ids
};

// The first `characters` characters (0: all) of a text file, line ends as Python's text mode reads
// them (\r\n and \r become \n), since that is how the field's perplexities are computed.
std::string read_characters(const std::string& file, int64_t characters = 0);

// The text of read_characters, encoded as one text without special tokens
// and cut into windows without overlap, of which the first `count` are taken (the convention of
// docs/metrics.md). Throws Error::refused when the text does not fill them.
TextWindows read_windows(const std::string& file, const text::Tokenizer& tokenizer, int64_t count,
                         int64_t length, int64_t characters = 0);

using RowSink = std::function<void(int64_t index, Json row)>;

// One row per window (docs/metrics.md): KL(base || variant) in nats, top-token agreement and
// negative log-likelihoods per position. Both models run each window on their own, on one backend,
// which compares their logits where they are, with keys and values in kv_dtype (model::KvCache).
// Skips indices in `done`.
void measure_divergence(model::Decoder& base, model::Decoder& variant,
                        std::optional<DType> kv_dtype, const TextWindows& text,
                        const std::set<int64_t>& done, const RowSink& sink);

}  // namespace narrow::similarity
