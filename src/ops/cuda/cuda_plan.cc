#include "ops/cuda/cuda_plan.h"

#include <algorithm>

#include "base/error.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {

CudaPlan::CudaPlan(Batch given, cudaStream_t stream) : Plan(std::move(given)) {
  const Batch& b = batch();
  if (b.positions.size() != b.tokens.size())
    throw Error::failed("a batch needs one position per token");
  const auto rows = static_cast<size_t>(b.rows());
  std::vector<int32_t> slots(rows, -1), row, table;
  std::vector<int32_t> blocks;
  for (const Batch::Sequence& sequence : b.sequences) {
    const auto begin = static_cast<int32_t>(blocks.size());
    blocks.insert(blocks.end(), sequence.blocks.begin(), sequence.blocks.end());
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t slot = sequence.context - sequence.rows + i;
      const auto r = static_cast<size_t>(sequence.first_row + i);
      if (r >= rows || slot < 0 ||
          slot / kKvBlockTokens >= static_cast<int64_t>(sequence.blocks.size()))
        throw Error::failed("a sequence of the batch lies outside it or has too few KV blocks");
      slots[r] = static_cast<int32_t>(sequence.blocks[static_cast<size_t>(slot / kKvBlockTokens)] *
                                          kKvBlockTokens +
                                      slot % kKvBlockTokens);
      row.push_back(static_cast<int32_t>(r));
      table.push_back(begin);
      visible_.push_back(static_cast<int32_t>(slot + 1));
    }
  }
  std::vector<int32_t> all;
  const auto append = [&](const std::vector<int32_t>& part) {
    const size_t at = all.size();
    all.insert(all.end(), part.begin(), part.end());
    return at;
  };
  const size_t tokens_at = append(b.tokens), positions_at = append(b.positions);
  const size_t slots_at = append(slots), row_at = append(row), table_at = append(table);
  const size_t visible_at = append(visible_), blocks_at = append(blocks);
  const auto bytes = static_cast<int64_t>(all.size() * sizeof(int32_t));
  memory_ = allocate_for_step(bytes, stream);
  copy_to_device(memory_.data.get(), all.data(), bytes, stream);
  const auto* base = static_cast<const int32_t*>(memory_.data.get());
  device_.tokens = base + tokens_at;
  device_.positions = base + positions_at;
  device_.slots = base + slots_at;
  device_.single_row = base + row_at;
  device_.single_table = base + table_at;
  device_.single_visible = base + visible_at;
  device_.block_table = base + blocks_at;
  device_.rows = static_cast<int>(rows);
  device_.singles = static_cast<int>(row.size());
}

DeviceBatch CudaPlan::singles(int first, int count) const {
  DeviceBatch part = device_;
  part.single_row += first;
  part.single_table += first;
  part.single_visible += first;
  part.singles = count;
  const auto begin = visible_.begin() + first;
  const int32_t most = *std::max_element(begin, begin + count);
  part.chunks = (most + kDecodeChunk - 1) / kDecodeChunk;
  return part;
}

}  // namespace narrow::ops::cuda
