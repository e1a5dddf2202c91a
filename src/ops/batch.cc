#include "ops/batch.h"

#include <cstddef>
#include <numeric>

namespace narrow::ops {

Batch single_sequence(const std::vector<int32_t>& tokens) {
  Batch batch;
  batch.tokens = tokens;
  batch.positions.resize(tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  Batch::Sequence sequence;
  sequence.rows = sequence.context = batch.rows();
  sequence.blocks.resize(
      static_cast<std::size_t>((batch.rows() + kKvBlockTokens - 1) / kKvBlockTokens));
  std::iota(sequence.blocks.begin(), sequence.blocks.end(), 0);
  batch.sequences.push_back(std::move(sequence));
  return batch;
}

}  // namespace narrow::ops
