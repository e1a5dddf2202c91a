#include "engine/block_pool.h"

#include <cassert>
#include <string_view>

#include "base/hash.h"

namespace narrow::engine {

BlockHash block_hash(const BlockHash& previous, const int32_t* tokens, int64_t count) {
  Sha256 hash;
  hash.add(previous);
  hash.add(std::string_view(reinterpret_cast<const char*>(tokens),
                            static_cast<size_t>(count) * sizeof(int32_t)));
  return hash.hex();
}

BlockPool::BlockPool(int64_t blocks) : blocks_(static_cast<size_t>(blocks)) {
  for (int32_t i = 0; i < blocks; ++i)
    blocks_[static_cast<size_t>(i)].place = free_.insert(free_.end(), i);
}

std::optional<int32_t> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t index = free_.front();
  free_.pop_front();
  Block& block = blocks_[static_cast<size_t>(index)];
  if (!block.hash.empty()) by_hash_.erase(block.hash);
  block.hash.clear();
  block.users = 1;
  return index;
}

std::optional<int32_t> BlockPool::find(const BlockHash& hash) {
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end()) return std::nullopt;
  Block& block = blocks_[static_cast<size_t>(found->second)];
  if (block.users++ == 0) free_.erase(block.place);
  return found->second;
}

void BlockPool::publish(int32_t index, const BlockHash& hash) {
  Block& block = blocks_[static_cast<size_t>(index)];
  assert(block.users > 0);
  // The same content computed twice: the first copy keeps the name.
  if (!block.hash.empty() || !by_hash_.emplace(hash, index).second) return;
  block.hash = hash;
}

void BlockPool::release(int32_t index) {
  Block& block = blocks_[static_cast<size_t>(index)];
  assert(block.users > 0);
  if (--block.users == 0) block.place = free_.insert(free_.end(), index);
}

bool BlockPool::consistent() const {
  int64_t used = 0;
  for (const Block& block : blocks_) used += block.users > 0;
  if (used + free() != total()) return false;
  for (const auto& [hash, index] : by_hash_)
    if (blocks_[static_cast<size_t>(index)].hash != hash) return false;
  return true;
}

}  // namespace narrow::engine
