// Attention of single rows over the paged cache when they are many enough to keep every processor
// busy: a block takes one row's heads of one key/value head and walks the pieces of the keys with
// the next one or two under way. Warp w scores page w of a piece, then weighs the values of all its
// pages in a quarter of the dimensions.
#include <algorithm>

#include "ops/cuda/cache_piece.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;
constexpr int kStaticBytes = 6 << 10;  // of a block's shared memory, at most
constexpr int kMostAtWork = 4;         // blocks on a processor, of which registers hold no more

// kHalves: of eight rows of a tile of mma: 1 if no more than eight queries share a key.
template <int kHeadDim, class Kv, int kHalves>
__global__ void __launch_bounds__(kWarps* kWarpSize, kMostAtWork)
    walk_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out,
                          int stages) {
  using Piece = CachePiece<kHeadDim, Kv>;
  constexpr int kOperands = kHeadDim / 32;  // of eight dims, of a warp
  __shared__ Exchange exchange;
  static_assert(sizeof exchange + 1024 <= kStaticBytes);
  const uint32_t ring = shared_address(block_memory()), ring_end = ring + stages * sizeof(Piece);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x, single = blockIdx.y;
  let_next_kernel_start();
  const int row = batch.single_row[single], end = batch.single_visible[single];
  const int32_t* table = batch.block_table + batch.single_table[single];
  const int pieces = pieces_of(end);
  const PageCopies<kWarps * kWarpSize, kHeadDim, Kv> copies(layer.kv, layer.kv_heads, kv_head);

  int begun = 0;       // the next piece to be copied
  uint32_t to = ring;  // where it goes
  // Where its pages lie; 0 stands for those behind the end.
  int32_t pages[kPages];
  const auto find_pages = [&] {
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const int at = begun * kPages + page;
      pages[page] = at * kPage < end ? __ldg(table + at) : 0;
    }
  };
  const auto start_page = [&](int page, bool wanted) {
    copies.start(to, page, pages[page], end - begun * kDecodeChunk - page * kPage, wanted);
  };
  const auto finish_piece = [&] {
    commit_copies();
    to = to + sizeof(Piece) < ring_end ? to + sizeof(Piece) : ring;
    ++begun;
    find_pages();
  };
  const auto begin_piece = [&] {
#pragma unroll
    for (int page = 0; page < kPages; ++page) start_page(page, begun < pieces);
    finish_piece();
  };
  find_pages();
  // The newest token's key and value are what the kernel before this one writes.
  const int settled = (end - 1) / kDecodeChunk;
  while (begun < min(stages, settled)) begin_piece();
  wait_for_previous_kernel();
  while (begun < stages) begin_piece();

  Queries<kHeadDim> q;
  const bf16_t* q_rows =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + kv_head * queries) *
                kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         kHalves == 2 && g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

  const typename Piece::Lane places(warp, lane);
  const float scale = layer.scale * kLog2E;
  Joined joined[kHalves];
  float value[kOperands][2 * kHalves] = {};
  uint32_t at = ring;
  int under_way = stages - 1;
  for (int piece = 0; piece < pieces; ++piece) {
    wait_for_copies(under_way);
    under_way = stages - 2;
    __syncthreads();  // the piece is there, and all are done with the one before
    PageScores score;
    // The stage of the one before is free. At the first piece all are taken.
    const bool begins = piece > 0;
    constexpr int kSteps = kHeadDim / 16 / kPages;  // of the scores, for each page asked for
    page_scores<kHeadDim>(
        q, [&](int half, int s) { return places.key(at, half, s); }, score,
        [&](int s) {
          if (s % kSteps == 0) start_page(s / kSteps, begins && begun < pieces);
        });
    if (begins) finish_piece();
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int c = 0; c < 2 * kHalves; ++c) {
        const int token = piece * kDecodeChunk + warp * kPage + 8 * half + 2 * t + (c & 1);
        score[half][c] = masked(score[half][c], token < end);
      }
    const PieceSums sums =
        weigh_piece<kHalves>(score, scale, exchange, warp, lane, [] { __syncthreads(); });
    Joined::Shares shares[kHalves];
#pragma unroll
    for (int r = 0; r < kHalves; ++r) shares[r] = joined[r].join(sums.reference[r], sums.sum[r]);
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
      for (int c = 0; c < 2 * kHalves; ++c)
        value[i][c] =
            fmaf(weighted[i][c], shares[c >> 1].piece, value[i][c] * shares[c >> 1].before);
    at = at + sizeof(Piece) < ring_end ? at + sizeof(Piece) : ring;
  }

#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
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
  int stages, bytes;
};
template <int kHeadDim, class Kv>
WalkMemory memory_of_walk(int share) {
  constexpr int kPieceBytes = sizeof(CachePiece<kHeadDim, Kv>);
  constexpr bool kWidens = sizeof(Kv) == 1;
  const int memory = shared_memory_of_processor();
  const int fit = std::clamp(memory / (2 * kPieceBytes + kStaticBytes), 1, kMostAtWork);
  // How many of a processor's blocks are at work at a time: as few as make no more rounds, since
  // fewer blocks have more pieces each. (Widening numbers takes longer than reading them: of blocks
  // that do it as many as fit.)
  const int at_work = kWidens ? std::min(share, fit) : div_up(share, div_up(share, fit));
  // A block alone takes no more than half of the memory: the rest is for blocks of the next kernel.
  const int stages =
      std::clamp((memory / std::max(at_work, 2) - kStaticBytes) / kPieceBytes, 2, kWidens ? 2 : 3);
  // Blocks begin where those of the kernels in front leave, and as many would begin together as fit
  // while other processors idle: so a block takes what lets no more than `at_work` do so.
  return {stages, std::max(stages * kPieceBytes, memory / (at_work + 1))};
}

template <int kHeadDim, class Kv, int kHalves>
void launch_walk_of(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                    bf16_t* out, cudaStream_t stream) {
  const auto kernel = walk_attention_kernel<kHeadDim, Kv, kHalves>;
  static const bool allowed = [&] {
    int most = 0;
    for (int share = 1; share <= kMostAtWork; ++share)
      most = std::max(most, memory_of_walk<kHeadDim, Kv>(share).bytes);
    allow_shared_memory(kernel, static_cast<size_t>(most));
    return true;
  }();
  (void)allowed;
  const auto [stages, bytes] =
      memory_of_walk<kHeadDim, Kv>(div_up(layer.kv_heads * batch.singles, processors()));
  launch(kernel, dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, static_cast<size_t>(bytes), stream, batch, layer, qkv, out, stages);
}

template <int kHeadDim, class Kv>
void launch_walk(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                 bf16_t* out, cudaStream_t stream) {
  const auto run = layer.heads / layer.kv_heads <= 8 ? launch_walk_of<kHeadDim, Kv, 1>
                                                     : launch_walk_of<kHeadDim, Kv, 2>;
  run(batch, layer, qkv, out, stream);
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
