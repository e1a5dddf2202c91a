#include "ops/cuda/cuda_plan.h"

#include <algorithm>

#include "base/error.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {

namespace {

constexpr size_t kArrays = 6;  // of one number per row

}  // namespace

StepMemory::StepMemory(cudaStream_t stream)
    : memory_(allocate(
          (static_cast<int64_t>(kArrays) * kRows + kBlocks) * static_cast<int64_t>(sizeof(int32_t)),
          stream)) {}

CudaPlan::CudaPlan(Batch given, StepMemory& fixed, cudaStream_t stream) : Plan(std::move(given)) {
  const Batch& b = batch();
  if (b.positions.size() != b.tokens.size())
    throw Error::failed("a batch needs one position per token");
  const auto rows = static_cast<size_t>(b.rows());
  std::vector<int32_t> slots(rows, -1), row, table, blocks;
  bool decode = b.rows() <= StepMemory::kRows;
  for (const Batch::Sequence& sequence : b.sequences) {
    decode = decode && sequence.rows == 1;
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
  decode = decode && row.size() == rows &&
           static_cast<int64_t>(blocks.size()) <= StepMemory::kBlocks && !fixed.in_use_;
  if (decode) {
    fixed_ = &fixed;
    fixed.in_use_ = true;
  }
  const size_t stride = decode ? StepMemory::kRows : std::max(rows, row.size());
  std::vector<int32_t> all(kArrays * stride + blocks.size(), 0);
  const auto bytes = static_cast<int64_t>(all.size() * sizeof(int32_t));
  if (!decode) memory_ = allocate_for_step(bytes, stream);
  auto* base = static_cast<int32_t*>((decode ? fixed.memory_ : memory_).data.get());
  size_t at = 0;
  const auto put = [&](const std::vector<int32_t>& part) {
    std::copy(part.begin(), part.end(), all.begin() + static_cast<long>(at));
    const int32_t* where = base + at;
    at += stride;
    return where;
  };
  device_.tokens = put(b.tokens);
  device_.positions = put(b.positions);
  device_.slots = put(slots);
  device_.single_row = put(row);
  device_.single_table = put(table);
  device_.single_visible = put(visible_);
  device_.block_table = put(blocks);
  device_.rows = static_cast<int>(rows);
  device_.singles = static_cast<int>(row.size());
  if (decode && !visible_.empty()) {
    // Doublings of the longest context share a record; pieces that a row does not have end at once.
    const int32_t most = *std::max_element(visible_.begin(), visible_.end());
    device_.chunks = 1;
    while (device_.chunks * kDecodeChunk < most) device_.chunks *= 2;
  }
  copy_to_device(base, all.data(), bytes, stream);
}

CudaPlan::~CudaPlan() {
  if (fixed_) fixed_->in_use_ = false;
}

DeviceBatch CudaPlan::singles(int first, int count) const {
  DeviceBatch part = device_;
  part.single_row += first;
  part.single_table += first;
  part.single_visible += first;
  part.singles = count;
  if (fixed_) return part;
  const auto begin = visible_.begin() + first;
  const int32_t most = *std::max_element(begin, begin + count);
  part.chunks = (most + kDecodeChunk - 1) / kDecodeChunk;
  return part;
}

}  // namespace narrow::ops::cuda
