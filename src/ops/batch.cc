#include "ops/batch.h"

#include <cstddef>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"

namespace narrow::ops {

Batch single_sequence(std::vector<int32_t> tokens, int64_t first) {
  Batch batch;
  batch.tokens = std::move(tokens);
  batch.positions.resize(batch.tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), static_cast<int32_t>(first));
  Batch::Sequence sequence;
  sequence.rows = batch.rows();
  sequence.context = first + batch.rows();
  sequence.blocks.resize(
      static_cast<std::size_t>((sequence.context + kKvBlockTokens - 1) / kKvBlockTokens));
  std::iota(sequence.blocks.begin(), sequence.blocks.end(), 0);
  batch.sequences.push_back(std::move(sequence));
  return batch;
}

Batch rows_of(const Batch& batch, std::span<const int32_t> rows) {
  std::vector<const Batch::Sequence*> sequence_of(batch.tokens.size());
  for (const Batch::Sequence& sequence : batch.sequences)
    for (int64_t i = 0; i < sequence.rows; ++i)
      sequence_of.at(static_cast<std::size_t>(sequence.first_row + i)) = &sequence;
  Batch some;
  const Batch::Sequence* before = nullptr;  // of the row in front
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] < 0 || rows[i] >= batch.rows())
      throw Error::failed("the step has no row " + std::to_string(rows[i]));
    const auto row = static_cast<std::size_t>(rows[i]);
    const Batch::Sequence* whole = sequence_of[row];
    if (whole && (whole != before || rows[i] != rows[i - 1] + 1)) {
      some.sequences.emplace_back();
      some.sequences.back().first_row = some.rows();
    }
    some.tokens.push_back(batch.tokens[row]);
    some.positions.push_back(batch.positions[row]);
    before = whole;
    if (!whole) continue;
    Batch::Sequence& sequence = some.sequences.back();
    ++sequence.rows;
    sequence.context = whole->context - whole->rows + rows[i] - whole->first_row + 1;
    const int64_t blocks = (sequence.context + kKvBlockTokens - 1) / kKvBlockTokens;
    sequence.blocks.insert(sequence.blocks.end(),
                           whole->blocks.begin() + static_cast<int64_t>(sequence.blocks.size()),
                           whole->blocks.begin() + blocks);
  }
  return some;
}

}  // namespace narrow::ops
