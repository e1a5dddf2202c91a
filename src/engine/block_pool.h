// The blocks of the paged KV cache: counts who uses each, and remembers what full blocks hold, so
// that a prompt that begins like an earlier one need not be computed again. Used by one thread.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace narrow::engine {

// Identity of a full block: SHA-256 over the identity of the block before it and its own tokens.
using BlockHash = std::string;

BlockHash block_hash(const BlockHash& previous, const int32_t* tokens, int64_t count);

class BlockPool {
 public:
  explicit BlockPool(int64_t blocks);

  int64_t total() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

  // A block nobody uses, with one user; what it held is forgotten. Empty when none is free.
  std::optional<int32_t> allocate();
  // The block that holds `hash`, with one more user.
  std::optional<int32_t> find(const BlockHash& hash);
  bool contains(const BlockHash& hash) const { return by_hash_.contains(hash); }
  // The block's content is complete and known by `hash` from now on.
  void publish(int32_t block, const BlockHash& hash);
  // One user fewer. The content stays known until the block is allocated again.
  void release(int32_t block);

  // Every block is either free or used; published hashes point to their blocks.
  bool consistent() const;

 private:
  struct Block {
    int64_t users = 0;
    BlockHash hash;                      // empty: content unknown
    std::list<int32_t>::iterator place;  // in free_ while unused
  };
  std::vector<Block> blocks_;
  std::list<int32_t> free_;  // least recently used first
  std::unordered_map<BlockHash, int32_t> by_hash_;
};

}  // namespace narrow::engine
