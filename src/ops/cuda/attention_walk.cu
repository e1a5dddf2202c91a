// Attention of single rows over the paged cache where they are many, or short
// (DeviceBatch::walk_heads): a block takes one row's heads of one key/value head and walks the
// pieces of the keys with the next ones under way, their keys and their values apart. Warp w scores
// page w of a piece, then weighs the values of all its pages in a quarter of the dimensions.
#include <algorithm>
#include <type_traits>

#include "ops/cuda/cache_piece.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;
constexpr int kStaticBytes = 6 << 10;  // of a block's shared memory, at most
constexpr int kMostAtWork = 4;         // blocks on a processor, of which registers hold no more

// kRowHalves: of eight rows of a tile of mma: 1 if no more than eight queries share a key.
// kRing: how many halves of pieces the ring of shared memory holds: keys of a piece, its values,
// keys of the next one … What takes the place of values are keys if it is odd, values if even.
template <int kHeadDim, class Kv, int kRowHalves, int kRing>
__global__ void __launch_bounds__(kWarps* kWarpSize, kMostAtWork)
    walk_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out) {
  using Piece = CachePiece<kHeadDim, Kv>;
  constexpr bool kValuesFirst = kRing % 2 == 0;  // of what is asked for beside a piece
  constexpr int kOperands = kHeadDim / 32;       // of eight dims, of a warp
  constexpr uint32_t kHalfBytes = sizeof(Piece::keys);
  __shared__ Exchange exchange;
  static_assert(sizeof exchange + 1024 <= kStaticBytes);
  const uint32_t ring = shared_address(block_memory()), ring_end = ring + kRing * kHalfBytes;
  const auto behind = [&](uint32_t half) {
    return half + kHalfBytes < ring_end ? half + kHalfBytes : ring;
  };
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x, single = blockIdx.y;
  let_next_kernel_start();
  const int row = batch.single_row[single], end = batch.single_visible[single];
  const int32_t* table = batch.block_table + batch.single_table[single];
  const int pieces = pieces_of(end);
  const PageCopies<kWarps * kWarpSize, kHeadDim, Kv> copies(layer.kv, layer.kv_heads, kv_head);

  // Where pages lie: a lane has one page of eight pieces and one of the eight behind them; 0 stands
  // for those behind the end.
  const auto find_page = [&](int at) { return at * kPage < end ? __ldg(table + at) : 0; };
  int32_t found = find_page(lane), found_next = find_page(kWarpSize + lane);
  int asked = -1;                 // the last piece whose keys are asked for,
  int32_t blocks[kPages];         // where its pages lie,
  int rest = end + kDecodeChunk;  // and how many tokens are left from its first on
  uint32_t to = ring;             // where the next half goes
  const auto find_next_piece = [&] {
    ++asked;
    rest -= kDecodeChunk;
    const int first = asked * kPages % kWarpSize;
    if (first == 0 && asked > 0) {
      found = found_next;
      found_next = find_page(asked * kPages + kWarpSize + lane);
    }
#pragma unroll
    for (int page = 0; page < kPages; ++page)
      blocks[page] = __shfl_sync(0xffffffffu, found, first + page);
  };
  const auto start_page = [&](bool values, int page, bool wanted) {
    copies.start(values, to, page, blocks[page], rest - page * kPage, wanted && rest > 0);
  };
  const auto finish_half = [&] {
    commit_copies();
    to = behind(to);
  };
  const auto begin_half = [&](bool values) {
    if (!values) find_next_piece();
#pragma unroll
    for (int page = 0; page < kPages; ++page) start_page(values, page, true);
    finish_half();
  };
  // The newest token's key and value are what the kernel before this one writes.
  const int settled = 2 * ((end - 1) / kDecodeChunk);
  int begun = 0;
  for (; begun < min(kRing, settled); ++begun) begin_half(begun % 2 == 1);
  wait_for_previous_kernel();
  for (; begun < kRing; ++begun) begin_half(begun % 2 == 1);

  Queries<kHeadDim> q;
  const bf16_t* q_rows =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + kv_head * queries) *
                kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         kRowHalves == 2 && g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

  const typename Piece::Lane places(warp, lane);
  const float scale = layer.scale * kLog2E;
  Joined joined[kRowHalves];
  float value[kOperands][2 * kRowHalves] = {};
  uint32_t at = ring;
  wait_for_copies(kRing - 1);
  int seen = end - warp * kPage - 2 * t;  // of the piece's tokens, from this lane's first on
  for (int piece = 0; piece < pieces; ++piece, seen -= kDecodeChunk) {
    const bool begins = piece > 0;  // before that all of the ring is taken
    __syncthreads();  // the keys are there, and all are done with the values before them
    if (begins && !kValuesFirst) find_next_piece();
    PageScores score;
    constexpr int kSteps = kHeadDim / 16 / kPages;  // of the scores, for each page asked for
    page_scores<kHeadDim>(
        q, [&](int half, int s) { return places.key(at, half, s); }, score,
        [&](int s) {
          if (s % kSteps == 0) start_page(kValuesFirst, s / kSteps, begins);
        });
    if (begins) finish_half();
    at = behind(at);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int c = 0; c < 2 * kRowHalves; ++c)
        score[half][c] = masked(score[half][c], 8 * half + (c & 1) < seen);
    bool keys_read = false;
    const PieceSums sums = weigh_piece<kRowHalves>(score, scale, exchange, warp, lane, [&] {
      if (keys_read) wait_for_copies(kRing - 1);  // the values are there behind the barrier
      __syncthreads();
      if (!keys_read) begin_half(!kValuesFirst);  // where the keys were
      keys_read = true;
    });
    Joined::Shares shares[kRowHalves];
#pragma unroll
    for (int r = 0; r < kRowHalves; ++r) shares[r] = joined[r].join(sums.reference[r], sums.sum[r]);
    float weighted[kOperands][4] = {};
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const uint4 w = exchange.weights[page][lane];
      uint2 v[kOperands];
      places.load_values(at, page, v);
#pragma unroll
      for (int i = 0; i < kOperands; ++i) mma_bf16(weighted[i], w.x, w.y, w.z, w.w, v[i].x, v[i].y);
    }
#pragma unroll
    for (int i = 0; i < kOperands; ++i)
#pragma unroll
      for (int c = 0; c < 2 * kRowHalves; ++c)
        value[i][c] =
            fmaf(weighted[i][c], shares[c >> 1].piece, value[i][c] * shares[c >> 1].before);
    at = behind(at);
    wait_for_copies(kRing - 2);
  }

#pragma unroll
  for (int r = 0; r < kRowHalves; ++r) {
    if (g + 8 * r >= queries) continue;
    const Quotient over_sum(joined[r].sum);
    bf16_t* to_row =
        out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries + g + 8 * r) * kHeadDim;
#pragma unroll
    for (int i = 0; i < kOperands; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        // A padding row sees nothing.
        to_row[Piece::dim(warp, i, 2 * t + c)] =
            __float2bfloat16_rn(pieces > 0 ? over_sum(value[i][2 * r + c]) : 0);
  }
}

// What a launch of `share` blocks for each processor gives a block.
struct WalkMemory {
  int halves, bytes;  // of pieces in its ring; of its shared memory
};
constexpr int kFewHalves = 3, kMoreHalves = 4;
template <class Kv>
constexpr int kManyHalves = sizeof(Kv) == 1 ? 5 : 6;  // measured (docs/performance/attention.md)
template <int kHeadDim, class Kv>
WalkMemory memory_of_walk(int share) {
  constexpr int kHalfBytes = sizeof(CachePiece<kHeadDim, Kv>::keys);
  constexpr bool kWidens = sizeof(Kv) == 1;
  const int memory = shared_memory_of_processor();
  const int fit = std::clamp(memory / (kFewHalves * kHalfBytes + kStaticBytes), 1, kMostAtWork);
  // How many of a processor's blocks are at work at a time: as few as make no more rounds, which
  // have more under way then. (Widening numbers takes longer than reading them: of blocks that do
  // it as many as fit.)
  const int at_work = kWidens ? std::min(share, fit) : div_up(share, div_up(share, fit));
  // A block alone takes no more than half of the memory: the rest is for blocks of the next kernel.
  const int most = (memory / std::max(at_work, 2) - kStaticBytes) / kHalfBytes;
  const int halves = most >= kManyHalves<Kv> ? kManyHalves<Kv>
                     : most >= kMoreHalves   ? kMoreHalves
                                             : kFewHalves;
  // Blocks begin where those of the kernels in front leave, and as many would begin together as fit
  // while other processors idle: so a block takes what lets no more than `at_work` do so.
  return {halves, std::max(halves * kHalfBytes, memory / (at_work + 1))};
}

template <int kHeadDim, class Kv, int kRowHalves, int kRing>
void launch_walk_of(int bytes, const DeviceBatch& batch, const AttentionLayer& layer,
                    const bf16_t* qkv, bf16_t* out, cudaStream_t stream) {
  const auto kernel = walk_attention_kernel<kHeadDim, Kv, kRowHalves, kRing>;
  static const bool allowed = [&] {
    int most = 0;
    for (int share = 1; share <= kMostAtWork; ++share)
      most = std::max(most, memory_of_walk<kHeadDim, Kv>(share).bytes);
    allow_shared_memory(kernel, static_cast<size_t>(most));
    return true;
  }();
  (void)allowed;
  launch(kernel, dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, static_cast<size_t>(bytes), stream, batch, layer, qkv, out);
}

template <int kHeadDim, class Kv>
void launch_walk(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                 bf16_t* out, cudaStream_t stream) {
  const auto [halves, bytes] =
      memory_of_walk<kHeadDim, Kv>(div_up(layer.kv_heads * batch.singles, processors()));
  const auto launch_ring = [&]<int kRing>(std::integral_constant<int, kRing>) {
    const auto run = layer.heads / layer.kv_heads <= 8 ? launch_walk_of<kHeadDim, Kv, 1, kRing>
                                                       : launch_walk_of<kHeadDim, Kv, 2, kRing>;
    run(bytes, batch, layer, qkv, out, stream);
  };
  if (halves == kFewHalves) return launch_ring(std::integral_constant<int, kFewHalves>());
  if (halves == kMoreHalves) return launch_ring(std::integral_constant<int, kMoreHalves>());
  launch_ring(std::integral_constant<int, kManyHalves<Kv>>());
}

}  // namespace

void walk_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  if (batch.singles == 0) return;
  const auto run = layer.head_dim == 128
                       ? (layer.e4m3 ? launch_walk<128, e4m3_t> : launch_walk<128, bf16_t>)
                       : (layer.e4m3 ? launch_walk<64, e4m3_t> : launch_walk<64, bf16_t>);
  run(batch, layer, qkv, out, stream);
}

}  // namespace narrow::ops::cuda
