// What one step of the model computes: some rows (tokens) of some sequences, with their place in
// the paged KV cache. Made by the scheduler on the host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace narrow::ops {

inline constexpr int64_t kKvBlockTokens = 16;  // tokens in one KV block

struct Batch {
  struct Sequence {
    int64_t first_row = 0;        // its rows are [first_row, first_row + rows)
    int64_t rows = 0;             // new tokens in this step, at the end of the sequence
    int64_t context = 0;          // tokens in the cache after this step, `rows` included
    std::vector<int32_t> blocks;  // KV blocks in order, ceil(context / kKvBlockTokens) of them
  };
  std::vector<int32_t> tokens;  // [rows]
  // [rows], or empty: all -1. Where it is not -1, the row's token is not the one above, but the one
  // that was chosen at this row of the logits summarized last (Backend::summarize_logits): a step
  // can be made before the host knows what the one before it chose.
  std::vector<int32_t> token_sources;
  std::vector<int32_t> positions;  // [rows] position of each row in its sequence
  std::vector<Sequence> sequences;

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

// One sequence that has the cache to itself, in blocks 0, 1, 2, ...: for tests, calibration,
// divergences. first: the position of the first token, of which those before have had their step.
Batch single_sequence(std::vector<int32_t> tokens, int64_t first = 0);

// A step of some rows of `batch` alone, for what comes behind the storing of keys and values of all
// of them: row i is rows[i] and sees what that row sees. Throws Error::failed for a row that there
// is not. REQUIRES: batch is of a Plan, which has checked it.
Batch rows_of(const Batch& batch, std::span<const int32_t> rows);

// Sizes of the KV cache of one layer: [blocks][2 (k, v)][kv_heads][kKvBlockTokens][head_dim].
struct KvShape {
  int64_t blocks = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t elements() const { return blocks * 2 * kv_heads * kKvBlockTokens * head_dim; }
};

}  // namespace narrow::ops
