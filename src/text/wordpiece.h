// WordPiece of one word, as BERT does it: the longest piece of the vocabulary that the word begins
// with, then the longest continuation ("##…") of the rest, and so on. A word that cannot be put
// together, or is longer than max_characters, is the unknown token as a whole. Immutable once
// filled; threads may share it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace narrow::text {

class WordPiece {
 public:
  std::unordered_map<std::string, int32_t> ids;
  std::string continuing_prefix = "##";
  int64_t max_characters = 100;
  int32_t unknown_id = -1;

  // Appends the ids of `word` (valid UTF-8). Time: max_characters² at most.
  void encode(std::string_view word, std::vector<int32_t>& out) const;
};

}  // namespace narrow::text
