// STS: how alike two texts are in meaning, as the cosine of their sentence embeddings (Reimers and
// Gurevych 2019). Equal to the Python package sentence-transformers 6.2.0 within 1e-4.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "similarity/text_encoder.h"

namespace narrow::similarity {

// The mean of the last layer's states over all tokens, begin and end included, of length 1. The
// text is cut at the encoder's sentence_tokens().
std::vector<float> sentence_embedding(TextEncoder& encoder, std::string_view text);

// a · b of embeddings of one encoder: -1 to 1.
double cosine(std::span<const float> a, std::span<const float> b);

}  // namespace narrow::similarity
