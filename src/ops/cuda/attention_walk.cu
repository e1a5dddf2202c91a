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
constexpr size_t kStaticBytes = 6 << 10;  // of a block's shared memory, at most

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    walk_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out,
                          int stages) {
  using Ring = CachePiece<kHeadDim, Kv>;
  constexpr int kOperands = kHeadDim / 32;  // of eight dims, of a warp
  extern __shared__ uint4 memory[];
  __shared__ Exchange exchange;
  static_assert(sizeof exchange + 1024 <= kStaticBytes);
  auto* ring = reinterpret_cast<Ring*>(memory);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x, single = blockIdx.y;
  let_next_kernel_start();
  const int row = batch.single_row[single], end = batch.single_visible[single];
  const int32_t* table = batch.block_table + batch.single_table[single];
  const int pieces = pieces_of(end);
  const int64_t page_numbers = kPage * kHeadDim;
  const PageCopies<kWarps * kWarpSize, kHeadDim, Kv> copies(
      static_cast<const Kv*>(layer.kv) + kv_head * page_numbers, 2 * layer.kv_heads * page_numbers,
      layer.kv_heads * page_numbers);

  // Where the pages of the next piece lie; 0 stands for those behind the end.
  int32_t pages[kPages];
  const auto find_pages = [&](int piece) {
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const int at = piece * kPages + page;
      pages[page] = at * kPage < end ? __ldg(table + at) : 0;
    }
  };
  int filled = 0;  // the stage that the next piece goes to
  const auto load_piece = [&](int piece) {
#pragma unroll
    for (int page = 0; page < kPages; ++page)
      copies.start(ring[filled], page, pages[page], end - piece * kDecodeChunk - page * kPage);
    filled = filled + 1 < stages ? filled + 1 : 0;
  };
  // The newest token's key and value are what the kernel before this one writes.
  const int settled = (end - 1) / kDecodeChunk;
  const auto begin_piece = [&](int piece) {
    find_pages(piece);
    if (piece < pieces) load_piece(piece);
    commit_copies();
  };
  int begun = 0;
  for (; begun < min(stages - 1, settled); ++begun) begin_piece(begun);
  wait_for_previous_kernel();
  for (; begun < stages - 1; ++begun) begin_piece(begun);
  find_pages(stages - 1);

  Queries<kHeadDim> q;
  const bf16_t* q_rows =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + kv_head * queries) *
                kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

  const float scale = layer.scale * kLog2E;
  Joined joined[2];
  float value[kOperands][4] = {};
  for (int piece = 0, stage = 0; piece < pieces; ++piece) {
    wait_for_copies(stages - 2);
    __syncthreads();  // the piece is there, and all are done with the one before
    if (const int next = piece + stages - 1; next < pieces) {
      load_piece(next);
      find_pages(next + 1);
    }
    commit_copies();
    const Ring& at = ring[stage];
    stage = stage + 1 < stages ? stage + 1 : 0;
    PageScores score;
    page_scores<kHeadDim>(
        q, [&](int half, int s) { return at.key(warp * kPage + 8 * half + g, s, t); }, score);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int token = piece * kDecodeChunk + warp * kPage + 8 * half + 2 * t + (c & 1);
        score[half][c] = masked(score[half][c], token < end);
      }
    const PieceSums sums = weigh_piece(score, scale, exchange, warp, lane, [] { __syncthreads(); });
    Joined::Shares shares[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) shares[r] = joined[r].join(sums.reference[r], sums.sum[r]);
    float weighted[kOperands][4] = {};
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const uint4 w = exchange.weights[page][lane];
      uint2 v[kOperands];
      at.load_values(page, warp, lane, v);
#pragma unroll
      for (int i = 0; i < kOperands; ++i) mma_bf16(weighted[i], w.x, w.y, w.z, w.w, v[i].x, v[i].y);
    }
#pragma unroll
    for (int i = 0; i < kOperands; ++i)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        value[i][c] =
            fmaf(weighted[i][c], shares[c >> 1].piece, value[i][c] * shares[c >> 1].before);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (g + 8 * r >= queries) continue;
    const Quotient over_sum(joined[r].sum);
    bf16_t* to =
        out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries + g + 8 * r) * kHeadDim;
#pragma unroll
    for (int i = 0; i < kOperands; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        // A padding row sees nothing.
        to[Ring::dim(warp, i, 2 * t + c)] =
            __float2bfloat16_rn(pieces > 0 ? over_sum(value[i][2 * r + c]) : 0);
  }
}

template <int kHeadDim, class Kv>
void launch_walk(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                 bf16_t* out, cudaStream_t stream) {
  constexpr size_t kPieceBytes = sizeof(CachePiece<kHeadDim, Kv>);
  const auto memory = static_cast<size_t>(shared_memory_of_processor());
  // Two or four blocks on a processor, two at a time: three stages. Else three blocks at a time.
  const int blocks = layer.kv_heads * batch.singles;
  const bool deep = sizeof(Kv) == 2 && 2 * (3 * kPieceBytes + kStaticBytes) <= memory;
  const int pairs = div_up(blocks, 2 * processors());
  const bool even = 8 * blocks > 7 * pairs * 2 * processors();
  const int stages = deep && pairs <= 2 && even ? 3 : 2;
  // Blocks begin where those of the kernels in front leave, and as many would begin together as fit
  // while other processors idle: so a block takes what lets no more than its share do so.
  const auto share = static_cast<size_t>(div_up(blocks, processors()));
  const size_t bytes = std::max(stages * kPieceBytes, memory / (share + 1));
  static const bool allowed = [&] {
    allow_shared_memory(walk_attention_kernel<kHeadDim, Kv>,
                        std::max((deep ? 3 : 2) * kPieceBytes, memory / 2));
    return true;
  }();
  (void)allowed;
  launch(walk_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, bytes, stream, batch, layer, qkv, out, stages);
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
