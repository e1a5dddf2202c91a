// Byte-pair encoding of one word. Immutable once it has encoded; threads may share it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace narrow::text {

class Bpe {
 public:
  struct Merge {
    int32_t rank;
    int32_t result;
  };

  // Bytes of each token in text form: byte-level vocabularies hold them already mapped back.
  std::unordered_map<std::string, int32_t> ids;
  // (left << 32 | right) → merge
  std::unordered_map<uint64_t, Merge> merges;
  std::array<int32_t, 256> byte_ids;  // -1 where there is none
  bool byte_level = false;            // start from bytes; otherwise from characters
  bool ignore_merges = false;         // a word that is a token is that token
  bool fuse_unknown = false;
  int32_t unknown_id = -1;

  // Appends the ids of `word`. Time n log n in its length; short words are remembered, each thread
  // for itself and of the Bpe it used last: prompts say the same ones again and again.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  static uint64_t next_number();
  void merge(std::string_view word, std::vector<int32_t>& out) const;
  void start_symbols(std::string_view word, std::vector<int32_t>& symbols) const;

  uint64_t number_ = next_number();  // whose words a thread remembers
};

}  // namespace narrow::text
