// Attention of single rows over the paged cache. A thread block sees one piece of one sequence
// and one key/value head (attention_piece.cuh).
#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;

template <int kHeadDim, class Kv>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    decode_attention_kernel(DeviceBatch batch, AttentionLayer layer, const bf16_t* qkv, bf16_t* out,
                            float* workspace, uint32_t* counters) {
  __shared__ Exchange exchange;
  __shared__ bool last;
  const int kv_head = blockIdx.x, piece = blockIdx.y, single = blockIdx.z;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int queries = layer.heads / layer.kv_heads;
  const auto sync = [] { __syncthreads(); };
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = batch.single_row[single];
  const int visible = batch.single_visible[single];
  bf16_t* out_row = out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries) * kHeadDim;
  if (visible == 0) {
    if (piece == 0)
      for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x)
        out_row[i] = __float2bfloat16_rn(0);
    return;
  }
  const int pieces = pieces_of(visible);
  if (piece >= pieces) return;
  const int first = piece * kDecodeChunk;
  const PiecePlace at{batch.block_table + batch.single_table[single] + first / kPage, kv_head,
                      first, min(visible, first + kDecodeChunk)};
  PieceNumbers<kHeadDim, Kv> numbers;
  numbers.load(layer, at, warp, lane);
  Queries<kHeadDim> q;
  const bf16_t* q_rows = qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) +
                                static_cast<int64_t>(kv_head) * queries) *
                                   kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);
  Weighted<kHeadDim> weighted;
  const PieceSums sums =
      attend_piece(numbers, q, layer.scale * kLog2E, at, exchange, warp, lane, sync, weighted);
  float* parts = workspace + (static_cast<int64_t>(single) * layer.kv_heads + kv_head) * gridDim.y *
                                 partial_floats(kHeadDim);
  leave_piece<kHeadDim>(weighted, sums, queries, pieces == 1, warp, lane,
                        parts + piece * partial_floats(kHeadDim), out_row);
  if (pieces == 1) return;
  uint32_t* counter = &counters[single * layer.kv_heads + kv_head];
  if (is_last_piece(counter, pieces, threadIdx.x, last, sync))
    join_pieces<kHeadDim>(parts, pieces, queries, threadIdx.x, blockDim.x, [&](int i, uint2 words) {
      *reinterpret_cast<uint2*>(out_row + i) = words;
    });
}

template <int kHeadDim, class Kv>
void launch_decode(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                   bf16_t* out, float* workspace, uint32_t* counters, cudaStream_t stream) {
  launch(decode_attention_kernel<kHeadDim, Kv>,
         dim3(static_cast<unsigned>(layer.kv_heads), static_cast<unsigned>(batch.chunks),
              static_cast<unsigned>(batch.singles)),
         kWarps * kWarpSize, 0, stream, batch, layer, qkv, out, workspace, counters);
}

}  // namespace

int64_t decode_workspace_bytes(const AttentionLayer& layer, int64_t singles, int64_t chunks) {
  return chunks <= 1 ? 0
                     : singles * layer.kv_heads * chunks * partial_floats(layer.head_dim) *
                           static_cast<int64_t>(sizeof(float));
}

void decode_attention(const DeviceBatch& batch, const AttentionLayer& layer, const bf16_t* qkv,
                      bf16_t* out, float* workspace, uint32_t* counters, cudaStream_t stream) {
  if (batch.singles == 0) return;
  const auto run = layer.head_dim == 128
                       ? (layer.e4m3 ? launch_decode<128, e4m3_t> : launch_decode<128, bf16_t>)
                       : (layer.e4m3 ? launch_decode<64, e4m3_t> : launch_decode<64, bf16_t>);
  run(batch, layer, qkv, out, workspace, counters, stream);
}

}  // namespace narrow::ops::cuda
