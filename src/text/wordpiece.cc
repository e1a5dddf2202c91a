#include "text/wordpiece.h"

namespace narrow::text {
namespace {

bool starts_character(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; }

}  // namespace

void WordPiece::encode(std::string_view word, std::vector<int32_t>& out) const {
  int64_t characters = 0;
  for (char byte : word) characters += starts_character(byte);
  if (characters > max_characters) {
    out.push_back(unknown_id);
    return;
  }
  const size_t before = out.size();
  for (size_t begin = 0; begin < word.size();) {
    size_t end = word.size();
    auto found = ids.end();
    while (end > begin) {
      std::string piece(word.substr(begin, end - begin));
      if (begin > 0) piece = continuing_prefix + piece;
      found = ids.find(piece);
      if (found != ids.end()) break;
      do --end;
      while (end > begin && !starts_character(word[end]));
    }
    if (found == ids.end()) {
      out.resize(before);
      out.push_back(unknown_id);
      return;
    }
    out.push_back(found->second);
    begin = end;
  }
}

}  // namespace narrow::text
