// BERTScore (Zhang et al. 2020): each token of one text is matched with the token of the other
// whose hidden state has the largest cosine with its own. Equal to the Python package bert_score
// 0.3.13, without baseline rescaling, within 1e-3:
//     precision = Σ_c w(c) max_r cos(c, r) / Σ_c w(c)   over the candidate's tokens c
//     recall    = Σ_r w(r) max_c cos(c, r) / Σ_r w(r)   over the reference's tokens r
//     F1        = 2 · precision · recall / (precision + recall)
// Begin and end tokens weigh nothing but may be matched with. Texts are stripped of white space at
// both ends and cut at the encoder's model_tokens(); all three are 0 when one is empty.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "similarity/text_encoder.h"

namespace narrow::similarity {

struct BertScore {
  // NaN where every weight of the text is 0, as bert_score has it (with idf only); f1 is 0 then.
  double precision = 0, recall = 0, f1 = 0;
};

// The layer that bert_score takes for a model of this name ("roberta-large": 17), which its authors
// tuned on WMT16; none for a name it does not know.
std::optional<int64_t> bertscore_layer(const std::string& name);

class BertScorer {
 public:
  // layer: whose states are compared; none: bertscore_layer of the encoder's name, or its last.
  // Throws Error::refused for a layer that the encoder does not have.
  BertScorer(TextEncoder& encoder, std::optional<int64_t> layer);

  int64_t layer() const { return layer_; }

  // Weighs tokens by their rarity in `references` from here on, begin and end too:
  //     w(t) = log((n + 1) / (k + 1))   k of the n references hold t
  void weigh_by_rarity(const std::vector<std::string>& references);

  BertScore score(std::string_view reference, std::string_view candidate);

 private:
  struct Encoded {
    std::vector<int32_t> ids;
    Tensor states;  // f32 [tokens, hidden], each row of length 1
  };
  std::vector<int32_t> encode(std::string_view text) const;
  Encoded represent(std::string_view text);
  double weight(int32_t id) const;

  TextEncoder& encoder_;
  int64_t layer_;
  std::optional<int64_t> references_;             // n, once weighed by rarity
  std::unordered_map<int32_t, int64_t> holders_;  // k
};

}  // namespace narrow::similarity
