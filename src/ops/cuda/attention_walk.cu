// Attention of single rows over the paged cache when they are many enough to keep every processor
// busy: a block takes one row's heads of one key/value head and walks the pieces of the keys with
// the next one under way. Warp w scores page w of a piece, then weighs the values of all its pages
// in a quarter of the dimensions.
#include "ops/cuda/cache_piece.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    walk_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out) {
  using Ring = CachePiece<kHeadDim, Kv>;
  constexpr int kOperands = kHeadDim / 32;  // of eight dims, of a warp
  extern __shared__ uint4 memory[];
  __shared__ Exchange exchange;
  auto* ring = reinterpret_cast<Ring*>(memory);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const int kv_head = blockIdx.x, single = blockIdx.y;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = batch.single_row[single], end = batch.single_visible[single];
  const int32_t* table = batch.block_table + batch.single_table[single];
  const int pieces = pieces_of(end);
  const int64_t page_numbers = static_cast<int64_t>(kPage) * kHeadDim;

  // Where the pages of the next piece lie; 0 stands for those behind the end.
  int32_t pages[kPages];
  const auto find_pages = [&](int piece) {
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const int at = piece * kPages + page;
      pages[page] = at * kPage < end ? __ldg(table + at) : 0;
    }
  };
  const auto load_piece = [&](int piece) {
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const Kv* keys =
          static_cast<const Kv*>(layer.kv) +
          (static_cast<int64_t>(pages[page]) * 2 * layer.kv_heads + kv_head) * page_numbers;
      copy_page(ring[piece % 2], page, keys, keys + layer.kv_heads * page_numbers,
                end - piece * kDecodeChunk - page * kPage);
    }
    commit_copies();
  };
  find_pages(0);
  load_piece(0);
  find_pages(1);

  Queries<kHeadDim> q;
  const bf16_t* q_rows =
      qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) + kv_head * queries) *
                kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);

  const float scale = layer.scale * kLog2E;
  Joined joined[2];
  float value[kOperands][4] = {};
  for (int piece = 0; piece < pieces; ++piece) {
    wait_for_copies(0);
    __syncthreads();  // the piece is there, and all are done with the one before
    if (piece + 1 < pieces) {
      load_piece(piece + 1);
      find_pages(piece + 2);
    }
    const Ring& at = ring[piece % 2];
    PageScores score;
    page_scores<kHeadDim>(
        q, [&](int half, int s) { return at.key(warp * kPage + 8 * half + g, s, t); }, score);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int token = piece * kDecodeChunk + warp * kPage + 8 * half + 2 * t + (c & 1);
        score[half][c] = scaled(score[half][c], scale, token < end);
      }
    const PieceSums sums = weigh_piece(score, exchange, warp, lane, [] { __syncthreads(); });
    Joined::Shares shares[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) shares[r] = joined[r].join(sums.largest[r], sums.sum[r]);
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
    bf16_t* to =
        out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries + g + 8 * r) * kHeadDim;
#pragma unroll
    for (int i = 0; i < kOperands; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        // A padding row sees nothing.
        to[Ring::dim(warp, i, 2 * t + c)] =
            __float2bfloat16_rn(pieces > 0 ? __fdiv_rn(value[i][2 * r + c], joined[r].sum) : 0);
  }
}

template <int kHeadDim, class Kv>
void launch_walk(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                 bf16_t* out, cudaStream_t stream) {
  constexpr size_t kBytes = 2 * sizeof(CachePiece<kHeadDim, Kv>);
  static const bool allowed = [] {
    allow_shared_memory(walk_attention_kernel<kHeadDim, Kv>, kBytes);
    return true;
  }();
  (void)allowed;
  launch(walk_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, kBytes, stream, batch, layer, qkv, out);
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
