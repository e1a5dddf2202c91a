// What BERT does to text before WordPiece: cleaning, and cutting at blanks and punctuation. Equal
// to the BertNormalizer and BertPreTokenizer of Hugging Face tokenizers, which follow the Unicode
// tables of Rust's libraries: characters younger than those tables may differ. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace narrow::text {

struct BertCleaning {
  bool clean_text = true;            // control characters go, every blank becomes a space
  bool handle_chinese_chars = true;  // a blank on either side of an ideograph
  bool strip_accents = true;         // NFD without non-spacing marks
  bool lowercase = true;             // character by character
};

// REQUIRES: valid UTF-8, here and below.
std::string bert_clean(std::string_view text, const BertCleaning& cleaning);

// Words between blanks; every punctuation character is a word of its own.
std::vector<std::string> bert_words(std::string_view text);

// Unicode's White_Space.
bool is_white_space(int32_t code_point);

// Bytes of the character that `text` begins with when that is white space, else 0.
size_t blank_length(std::string_view text);

}  // namespace narrow::text
