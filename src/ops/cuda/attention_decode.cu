// Attention of single rows over the paged cache. A thread block sees one piece of one sequence
// and one key/value head (attention_piece.cuh); the last piece of a row to be done joins them all.
#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"

namespace narrow::ops::cuda {
namespace {

using bf16_t = __nv_bfloat16;

constexpr int kWarps = kPages;

// 8 or 4 bytes, past L1.
__device__ inline void load_key(const __nv_bfloat16* from, Numbers<__nv_bfloat16, 4>& to) {
  const uint2 four = load_past_l1(from);
  to.pair[0] = four.x, to.pair[1] = four.y;
}
__device__ inline void load_key(const e4m3_t* from, Numbers<e4m3_t, 4>& to) {
  // Half a sector of memory: the next step's codes are the other half.
  const uint32_t four = *reinterpret_cast<const uint32_t*>(from);
  to.pair[0] = static_cast<uint16_t>(four), to.pair[1] = static_cast<uint16_t>(four >> 16);
}

// One piece's result: weighted values [kMmaRows][head_dim], then references and sums [kMmaRows].
__host__ __device__ constexpr int64_t partial_floats(int head_dim) {
  return static_cast<int64_t>(kMmaRows) * head_dim + 2 * kMmaRows;
}

// Leaves a piece where join_pieces() finds it, or in `out` [queries][kHeadDim] if it is the only
// one.
template <int kHeadDim>
__device__ inline void leave_piece(const Weighted<kHeadDim>& weighted, const PieceSums& sums,
                                   int queries, bool only, int warp, int lane, float* partial,
                                   __nv_bfloat16* out) {
  constexpr int kDims = kHeadDim / 32;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = g + 8 * r;
    if (head >= queries) continue;
    const Quotient over_sum(sums.sum[r]);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int dim = warp * 8 * kDims + kDims * (2 * t + c);
      if (only) {
        // A negative zero becomes positive, as joining would make it.
#pragma unroll
        for (int j = 0; j < kDims; ++j)
          out[head * kHeadDim + dim + j] =
              __float2bfloat16_rn(over_sum(weighted[j][2 * r + c] + 0.0f));
      } else {
#pragma unroll
        for (int j = 0; j < kDims; j += 2)
          *reinterpret_cast<float2*>(partial + head * kHeadDim + dim + j) =
              make_float2(weighted[j][2 * r + c], weighted[j + 1][2 * r + c]);
      }
    }
    if (!only && warp == 0 && t == 0) {
      partial[kMmaRows * kHeadDim + head] = sums.reference[r];
      partial[kMmaRows * kHeadDim + kMmaRows + head] = sums.sum[r];
    }
  }
}

// Counts a piece that has been left as done; true of the last of its row. What this thread wrote
// before, and others before a barrier that parts them from it, is there for those that read behind
// a barrier after it where it is the last. counter: zero before the first, and after the last
// again.
__device__ inline bool count_piece(uint32_t* counter, int pieces) {
  const auto last = static_cast<uint32_t>(pieces) - 1;
  return count_up_to(last, counter) == last;
}

inline constexpr int kJoinedAtOnce = 8;  // pieces

// parts: of all pieces, in order, 16-byte aligned. The result is [queries][kHeadDim]. A thread
// joins four dimensions, which store(first, words) is given, and has kJoinedAtOnce pieces under
// way: one after the other they would cost a round trip to memory each. Their references and sums
// are loaded by one lane each and passed on among kLanes, which are of one head.
template <int kHeadDim, class Store>
__device__ inline void join_pieces(const float* parts, int pieces, int queries, int thread,
                                   int threads, Store store) {
  constexpr int kLanes = 16;
  static_assert(kHeadDim % (4 * kLanes) == 0);
  const int numbers = queries * kHeadDim, lane = thread % kLanes;
  const uint32_t lanes = 0xffffu << (thread % kWarpSize / kLanes * kLanes);
#pragma unroll 1
  for (int i = 4 * thread; i < numbers; i += 4 * threads) {
    const float* of_head = parts + kMmaRows * kHeadDim + i / kHeadDim;
    Joined joined;
    float value[4] = {};
#pragma unroll 1
    for (int begin = 0; begin < pieces; begin += kJoinedAtOnce) {
      const int count = min(kJoinedAtOnce, pieces - begin);
      const float* from = parts + begin * partial_floats(kHeadDim) + i;
      float4 part[kJoinedAtOnce];
#pragma unroll
      for (int c = 0; c < kJoinedAtOnce; ++c)
        if (c < count)
          part[c] = __ldcg(reinterpret_cast<const float4*>(from + c * partial_floats(kHeadDim)));
      const float* of_piece = of_head + (begin + min(lane, count - 1)) * partial_floats(kHeadDim);
      const float reference = __ldcg(of_piece), sum = __ldcg(of_piece + kMmaRows);
#pragma unroll
      for (int c = 0; c < kJoinedAtOnce; ++c) {
        if (c >= count) break;
        const auto shares = joined.join(__shfl_sync(lanes, reference, c, kLanes),
                                        __shfl_sync(lanes, sum, c, kLanes));
        value[0] = fmaf(part[c].x, shares.piece, value[0] * shares.before);
        value[1] = fmaf(part[c].y, shares.piece, value[1] * shares.before);
        value[2] = fmaf(part[c].z, shares.piece, value[2] * shares.before);
        value[3] = fmaf(part[c].w, shares.piece, value[3] * shares.before);
      }
    }
    const Quotient over_sum(joined.sum);
#pragma unroll
    for (float& v : value) v = over_sum(v);
    store(i, make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3])));
  }
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
