// Attention of single rows over the paged cache. A thread block sees one piece of one sequence
// and one key/value head (attention_piece.cuh).
#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;

// 8 or 4 bytes, past L1.
__device__ inline void load_key(const __nv_bfloat16* from, Numbers<__nv_bfloat16, 4>& to) {
  asm volatile("ld.global.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
               : "=r"(to.pair[0]), "=r"(to.pair[1])
               : "l"(from));
}
__device__ inline void load_key(const e4m3_t* from, Numbers<e4m3_t, 4>& to) {
  // Half a sector of memory: the next step's codes are the other half.
  const uint32_t four = *reinterpret_cast<const uint32_t*>(from);
  to.pair[0] = static_cast<uint16_t>(four), to.pair[1] = static_cast<uint16_t>(four >> 16);
}

struct PiecePlace {
  const int32_t* table;  // blocks of the piece's pages
  int kv_head;
  int first, end;  // tokens that the row sees, at least one; what lies beyond the end may be
                   // another sequence's, or no number at all: the last token is read in its place
};

// A lane's numbers of a piece, all loaded before the first is used.
template <int kHeadDim, class Kv>
struct PieceNumbers {
  static constexpr int kDims = kHeadDim / 32;  // of values of a lane, beside each other
  static constexpr int kWarpDims = 8 * kDims;
  Numbers<Kv, 4> keys[2][kHeadDim / 16];  // of the warp's page
  Numbers<Kv, kDims> values[kPages][4];

  __device__ Numbers<Kv, 4> key(int half, int s) const { return keys[half][s]; }
  __device__ Numbers<Kv, kDims> value(int page, int i) const { return values[page][i]; }

  __device__ void load(const AttentionLayer& layer, const PiecePlace& at, int warp, int lane) {
    const int g = lane / 4, t = lane % 4;
    constexpr int64_t kPageNumbers = static_cast<int64_t>(kPage) * kHeadDim;
    const int last = at.end - at.first - 1, last_page = last / kPage;
    const auto keys_of = [&](int page) {
      return static_cast<const Kv*>(layer.kv) +
             (static_cast<int64_t>(at.table[page]) * 2 * layer.kv_heads + at.kv_head) *
                 kPageNumbers;
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = min(warp * kPage + 8 * half + g, last);
      const Kv* from = keys_of(token / kPage) + token % kPage * kHeadDim + 4 * t;
#pragma unroll
      for (int s = 0; s < kHeadDim / 16; ++s) load_key(from + 16 * s, keys[half][s]);
    }
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const Kv* from = keys_of(min(page, last_page)) + layer.kv_heads * kPageNumbers +
                       warp * kWarpDims + kDims * g;
      const int most = page < last_page ? kPage - 1 : last % kPage;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = min(2 * t + (i & 1) + 8 * (i >> 1), most);
        values[page][i] = *reinterpret_cast<const Numbers<Kv, kDims>*>(from + token * kHeadDim);
      }
    }
  }
};

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
  let_next_kernel_start();
  const int row = batch.single_row[single];
  const int visible = batch.single_visible[single];
  bf16_t* out_row = out + (static_cast<int64_t>(row) * layer.heads + kv_head * queries) * kHeadDim;
  const int pieces = pieces_of(visible), first = piece * kDecodeChunk;
  const PiecePlace at{batch.block_table + batch.single_table[single] + first / kPage, kv_head,
                      first, min(visible, first + kDecodeChunk)};
  PieceNumbers<kHeadDim, Kv> numbers;
  // The newest token's key and value are what the kernel before this one writes.
  const bool settled = piece < (visible - 1) / kDecodeChunk;
  if (settled) numbers.load(layer, at, warp, lane);
  wait_for_previous_kernel();
  if (visible == 0) {
    if (piece == 0)
      for (int i = threadIdx.x; i < queries * kHeadDim; i += blockDim.x)
        out_row[i] = __float2bfloat16_rn(0);
    return;
  }
  if (piece >= pieces) return;
  if (!settled) numbers.load(layer, at, warp, lane);
  Queries<kHeadDim> q;
  const bf16_t* q_rows = qkv + (static_cast<int64_t>(row) * (layer.heads + 2 * layer.kv_heads) +
                                static_cast<int64_t>(kv_head) * queries) *
                                   kHeadDim;
  q.load(g < queries ? q_rows + g * kHeadDim : nullptr,
         g + 8 < queries ? q_rows + (g + 8) * kHeadDim : nullptr, t);
  Weighted<kHeadDim> weighted;
  const PieceSums sums = attend_piece<kHeadDim>(numbers, q, layer.scale * kLog2E, at.end - at.first,
                                                exchange, warp, lane, sync, weighted);
  float* parts = workspace + (static_cast<int64_t>(single) * layer.kv_heads + kv_head) * gridDim.y *
                                 partial_floats(kHeadDim);
  leave_piece<kHeadDim>(weighted, sums, queries, pieces == 1, warp, lane,
                        parts + piece * partial_floats(kHeadDim), out_row);
  if (pieces == 1) return;
  sync();
  if (threadIdx.x == 0) last = count_piece(&counters[single * layer.kv_heads + kv_head], pieces);
  sync();
  if (last)
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
