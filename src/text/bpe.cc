#include "text/bpe.h"

#include <atomic>
#include <functional>
#include <queue>

#include "text/utf8.h"

namespace narrow::text {
namespace {

struct Node {
  int32_t id;
  int32_t previous, next;  // -1: none
};

struct Candidate {
  int32_t rank;
  int32_t left;  // node
  int32_t left_id, right_id, result;
  // Lowest rank first, then leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

// What a thread remembers: bounded, so that texts without repetition cost little memory.
constexpr size_t kLongestWord = 48, kMostWords = size_t{1} << 16;

struct Hash {
  using is_transparent = void;
  size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
};

struct Remembered {
  uint64_t number = 0;
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words;
};

}  // namespace

uint64_t Bpe::next_number() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

void Bpe::start_symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  if (byte_level) {
    // A byte the vocabulary lacks is dropped, as Hugging Face does without an unknown token.
    for (char c : word) {
      const int32_t id = byte_ids[static_cast<uint8_t>(c)];
      if (id >= 0) symbols.push_back(id);
    }
    return;
  }
  bool after_unknown = false;
  while (!word.empty()) {
    const size_t length = character_length(word);
    const std::string character(word.substr(0, length));
    word.remove_prefix(length);
    if (const auto found = ids.find(character); found != ids.end()) {
      symbols.push_back(found->second);
      after_unknown = false;
      continue;
    }
    bool bytes = true;
    for (char c : character) bytes = bytes && byte_ids[static_cast<uint8_t>(c)] >= 0;
    if (bytes) {
      for (char c : character) symbols.push_back(byte_ids[static_cast<uint8_t>(c)]);
      after_unknown = false;
    } else if (unknown_id >= 0) {
      if (!(fuse_unknown && after_unknown)) symbols.push_back(unknown_id);
      after_unknown = true;
    }
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& out) const {
  if (word.size() > kLongestWord) return merge(word, out);
  thread_local Remembered remembered;
  if (remembered.number != number_ || remembered.words.size() >= kMostWords)
    remembered = {number_, {}};
  auto found = remembered.words.find(word);
  if (found == remembered.words.end()) {
    std::vector<int32_t> made;
    merge(word, made);
    found = remembered.words.emplace(word, std::move(made)).first;
  }
  out.insert(out.end(), found->second.begin(), found->second.end());
}

void Bpe::merge(std::string_view word, std::vector<int32_t>& out) const {
  if (ignore_merges) {
    if (const auto found = ids.find(std::string(word)); found != ids.end()) {
      out.push_back(found->second);
      return;
    }
  }
  std::vector<int32_t> symbols;
  start_symbols(word, symbols);
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Node> nodes(symbols.size());
  for (int32_t i = 0; i < count; ++i)
    nodes[static_cast<size_t>(i)] = {symbols[static_cast<size_t>(i)], i - 1,
                                     i + 1 < count ? i + 1 : -1};
  std::priority_queue<Candidate> queue;
  const auto consider = [&](int32_t left) {
    if (left < 0 || nodes[static_cast<size_t>(left)].next < 0) return;
    const Node& node = nodes[static_cast<size_t>(left)];
    const int32_t right_id = nodes[static_cast<size_t>(node.next)].id;
    const auto found = merges.find(static_cast<uint64_t>(static_cast<uint32_t>(node.id)) << 32 |
                                   static_cast<uint32_t>(right_id));
    if (found != merges.end())
      queue.push({found->second.rank, left, node.id, right_id, found->second.result});
  };
  for (int32_t i = 0; i + 1 < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Node& left = nodes[static_cast<size_t>(best.left)];
    // Stale when one of the two has been merged since.
    if (left.id != best.left_id || left.next < 0) continue;
    Node& right = nodes[static_cast<size_t>(left.next)];
    if (right.id != best.right_id) continue;
    left.id = best.result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) nodes[static_cast<size_t>(left.next)].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int32_t i = count > 0 ? 0 : -1; i >= 0; i = nodes[static_cast<size_t>(i)].next)
    out.push_back(nodes[static_cast<size_t>(i)].id);
}

}  // namespace narrow::text
