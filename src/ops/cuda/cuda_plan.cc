#include "ops/cuda/cuda_plan.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {

namespace {

constexpr int64_t kRowArrays = 6;  // of one number per row

// Rows on their own, as DeviceBatch has them.
struct Singles {
  std::vector<int32_t> row, table, visible;
  void append(const Singles& other) {
    row.insert(row.end(), other.row.begin(), other.row.end());
    table.insert(table.end(), other.table.begin(), other.table.end());
    visible.insert(visible.end(), other.visible.begin(), other.visible.end());
  }
};

// A run of rows of one sequence, as DeviceBatch has them.
struct Tile {
  int32_t row, rows, table, visible;
};

// One number of each tile.
std::vector<int32_t> column_of(const std::vector<Tile>& tiles, int32_t Tile::*column) {
  std::vector<int32_t> values;
  values.reserve(tiles.size());
  for (const Tile& tile : tiles) values.push_back(tile.*column);
  return values;
}

// A block for each piece costs time by their number, a walk by the longest row: it is faster from
// `share` pieces a processor on for each of that row's beyond the first few.
struct WalkRule {
  double share;
  int64_t first_few;
};
// Measured on an H200, 30 November 2026 (docs/performance/attention.md).
constexpr WalkRule kWalkOfBf16 = {0.28, 6}, kWalkOfE4m3 = {0.44, 3};

// From how many key/value heads on rows are walked that have `all` pieces together, the longest
// `most`. A power of two, so that few recordings serve all steps.
int heads_to_walk_from(int64_t all, int64_t most, const WalkRule& rule) {
  constexpr int kMostHeads = 128;
  const double least = rule.share * processors() * static_cast<double>(most - rule.first_few);
  for (int heads = 1; heads <= kMostHeads; heads *= 2)
    if (static_cast<double>(all * heads) > least) return heads;
  return std::numeric_limits<int>::max();
}

WalkHeads walk_heads(const std::vector<int32_t>& visible) {
  int64_t all = 0, most = 0;
  for (const int32_t tokens : visible) {
    all += pieces_of(tokens);
    most = std::max<int64_t>(most, pieces_of(tokens));
  }
  return {heads_to_walk_from(all, most, kWalkOfBf16), heads_to_walk_from(all, most, kWalkOfE4m3)};
}

}  // namespace

StepMemory::StepMemory(cudaStream_t stream)
    : memory_(allocate((kRowArrays * kRows + kBlocks) * static_cast<int64_t>(sizeof(int32_t)),
                       stream)) {}

CudaPlan::CudaPlan(Batch given, StepMemory& fixed, Staging& staging, cudaStream_t stream)
    : Plan(std::move(given)) {
  const Batch& b = batch();
  const auto rows = static_cast<size_t>(b.rows());
  std::vector<int32_t> tokens = b.tokens;
  for (size_t r = 0; r < b.token_sources.size(); ++r)
    if (b.token_sources[r] >= 0) tokens[r] = ~b.token_sources[r];
  std::vector<int32_t> slots(rows, -1), blocks;
  Singles singles, in_tiles;
  std::vector<Tile> tiles;
  for (const Batch::Sequence& sequence : b.sequences) {
    const auto begin = static_cast<int32_t>(blocks.size());
    blocks.insert(blocks.end(), sequence.blocks.begin(), sequence.blocks.end());
    const bool tiled = sequence.rows > 1;
    Singles& to = tiled ? in_tiles : singles;
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t slot = sequence.context - sequence.rows + i;
      const auto r = static_cast<size_t>(sequence.first_row + i);
      if (r >= rows || slot < 0 ||
          slot / kKvBlockTokens >= static_cast<int64_t>(sequence.blocks.size()))
        throw Error::failed("a sequence of the batch lies outside it or has too few KV blocks");
      slots[r] = static_cast<int32_t>(sequence.blocks[static_cast<size_t>(slot / kKvBlockTokens)] *
                                          kKvBlockTokens +
                                      slot % kKvBlockTokens);
      to.row.push_back(static_cast<int32_t>(r));
      to.table.push_back(begin);
      to.visible.push_back(static_cast<int32_t>(slot + 1));
      if (tiled && i % kPrefillRows == 0)
        tiles.push_back({static_cast<int32_t>(r),
                         static_cast<int32_t>(std::min<int64_t>(kPrefillRows, sequence.rows - i)),
                         begin, static_cast<int32_t>(slot + 1)});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& one, const Tile& other) { return one.visible > other.visible; });
  lone_ = static_cast<int>(singles.row.size());
  device_.walk_heads = walk_heads(singles.visible);
  singles.append(in_tiles);
  visible_ = singles.visible;
  const bool decode = b.rows() <= StepMemory::kRows && tiles.empty() &&
                      singles.row.size() == rows &&
                      static_cast<int64_t>(blocks.size()) <= StepMemory::kBlocks && !fixed.in_use_;
  if (decode) {
    fixed_ = &fixed;
    fixed.in_use_ = true;
  }
  // Arrays one after another; those of a recordable step always at the same places.
  std::vector<int32_t> all;
  std::vector<std::pair<const int32_t**, size_t>> places;
  const auto put = [&](const int32_t*& where, const std::vector<int32_t>& part) {
    places.emplace_back(&where, all.size());
    all.insert(all.end(), part.begin(), part.end());
    if (decode) all.resize(places.back().second + StepMemory::kRows, 0);
  };
  put(device_.tokens, tokens);
  put(device_.positions, b.positions);
  put(device_.slots, slots);
  put(device_.single_row, singles.row);
  put(device_.single_table, singles.table);
  put(device_.single_visible, singles.visible);
  if (!decode) {
    put(device_.tile_row, column_of(tiles, &Tile::row));
    put(device_.tile_rows, column_of(tiles, &Tile::rows));
    put(device_.tile_table, column_of(tiles, &Tile::table));
    put(device_.tile_visible, column_of(tiles, &Tile::visible));
  }
  places.emplace_back(&device_.block_table, all.size());
  all.insert(all.end(), blocks.begin(), blocks.end());
  const auto bytes = static_cast<int64_t>(all.size() * sizeof(int32_t));
  if (!decode) memory_ = allocate_for_step(bytes, stream);
  auto* base = static_cast<int32_t*>((decode ? fixed.memory_ : memory_).data.get());
  for (const auto& [where, at] : places) *where = base + at;
  device_.rows = static_cast<int>(rows);
  device_.singles = static_cast<int>(singles.row.size());
  device_.tiles = static_cast<int>(tiles.size());
  if (decode && !visible_.empty()) {
    // Doublings of the longest context share a record; pieces that a row does not have end at once.
    const int32_t most = *std::max_element(visible_.begin(), visible_.end());
    device_.chunks = 1;
    while (device_.chunks * kDecodeChunk < most) device_.chunks *= 2;
  }
  staging.copy(base, all.data(), bytes);
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
  part.chunks = pieces_of(most);
  return part;
}

}  // namespace narrow::ops::cuda
