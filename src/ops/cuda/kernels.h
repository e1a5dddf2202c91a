// The kernels of the CUDA backend as host functions: each enqueues on `stream` and returns. Plain
// pointers into device memory, row-major; shapes beside them. No allocation, no synchronization, so
// that a step can be captured as a graph. Errors of a launch throw Error::failed.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/logits.h"

namespace narrow::ops::cuda {

// --- Copies -------------------------------------------------------------------------------------

// to[i] = from[i].  from: page-locked memory of the host, filled before this is called; both
// aligned to 16 bytes.
void copy_words(uint32_t* to, const uint32_t* from, int64_t words, cudaStream_t stream);

// --- Rows of activations ------------------------------------------------------------------------

// Codes of quantized rows beside the rows themselves. Rows of `codes` are `stride` bytes apart;
// what lies between cols and stride is set to zero.
enum class Codes { none, int8, fp8 };
struct QuantizedRows {
  Codes kind = Codes::none;
  uint8_t* codes = nullptr;  // [rows, stride]
  float* scales = nullptr;   // [rows]
  int64_t stride = 0;
};

// out[r] = table[tokens[r]], or of the token chosen[~tokens[r]] where tokens[r] is below zero.
// table: bf16 [vocabulary, cols]
void embed(const int32_t* tokens, const int32_t* chosen, const __nv_bfloat16* table,
           __nv_bfloat16* out, int64_t rows, int64_t cols, cudaStream_t stream);

// out[i] = x[rows[i]].
void gather_rows(const __nv_bfloat16* x, const int32_t* rows, __nv_bfloat16* out, int64_t count,
                 int64_t cols, cudaStream_t stream);

// out[r][c] = x[r][columns[c]].  cols: a multiple of 8
void gather_columns(const __nv_bfloat16* x, const int32_t* columns, __nv_bfloat16* out,
                    int64_t rows, int64_t cols, cudaStream_t stream);

// y = x / sqrt(mean(x²) + epsilon) · gamma, or its codes alone.  cleared: [rows], set to zero, or
// null
void rms_norm(const __nv_bfloat16* x, const float* gamma, float epsilon, __nv_bfloat16* y,
              QuantizedRows quantized, uint32_t* cleared, int64_t rows, int64_t cols,
              cudaStream_t stream);

void add(__nv_bfloat16* residual, const __nv_bfloat16* x, int64_t elements, cudaStream_t stream);

// y = silu(gate) · up, or its codes alone.  gate_up: [rows, 2 cols], gate first
void silu_mul(const __nv_bfloat16* gate_up, __nv_bfloat16* y, QuantizedRows quantized, int64_t rows,
              int64_t cols, cudaStream_t stream);

void quantize_rows(const __nv_bfloat16* x, QuantizedRows quantized, int64_t rows, int64_t cols,
                   cudaStream_t stream);
// The same where the largest magnitude of each row is known, by its bits in float32: no thread
// waits for another. REQUIRES: cols is a multiple of eight.
void quantize_known_rows(const __nv_bfloat16* x, const uint32_t* largest, QuantizedRows quantized,
                         int64_t rows, int64_t cols, cudaStream_t stream);

// --- Attention ----------------------------------------------------------------------------------

// Sizes of one layer and where its cache lies: [blocks][2][kv_heads][16][head_dim] in bf16, or in
// e4m3: rounded when stored, saturating, and widened to bf16, which is exact, when attended.
struct AttentionLayer {
  int heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;
  void* kv = nullptr;
  bool e4m3 = false;
  int64_t blocks = 0;
};

// From so many key/value heads on rows are walked (walk_attention()), by the type of the cache.
struct WalkHeads {
  int bf16 = 0, e4m3 = 0;
};

// A step's metadata in device memory (cuda_plan.h fills it).
struct DeviceBatch {
  const int32_t* tokens = nullptr;     // [rows]; below zero: ~ the row of logits it is chosen from
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* slots = nullptr;      // [rows] block · 16 + offset in the cache; -1: none
  // Every row on its own; rows that stand in no tile come first.
  const int32_t* single_row = nullptr;      // [singles]
  const int32_t* single_table = nullptr;    // [singles] where the row's block table begins
  const int32_t* single_visible = nullptr;  // [singles] tokens it sees; 0: a padding row
  // Runs of rows of one sequence, up to kPrefillRows each; for speed, those that see most first.
  const int32_t* tile_row = nullptr;      // [tiles] first row
  const int32_t* tile_rows = nullptr;     // [tiles] rows in the tile
  const int32_t* tile_table = nullptr;    // [tiles]
  const int32_t* tile_visible = nullptr;  // [tiles] tokens that the first row sees
  const int32_t* block_table = nullptr;   // [all sequences' blocks]
  int rows = 0, singles = 0, tiles = 0;
  int chunks = 0;        // upper bound of visible / kDecodeChunk over the singles
  WalkHeads walk_heads;  // of the rows that stand in no tile
};

inline constexpr int kDecodeChunk = 64;  // tokens one thread block of decode attention sees
// Pieces of kDecodeChunk tokens that `tokens` make up.
__host__ __device__ constexpr int pieces_of(int tokens) {
  return (tokens + kDecodeChunk - 1) / kDecodeChunk;
}
inline constexpr int kPrefillRows = 32;  // tokens of one tile of prefill attention
inline constexpr int kMostQueriesPerKv = 16;

// qkv: [rows, (heads + 2 kv_heads) head_dim].  cosine, sine: [positions, head_dim / 2]
void rope_and_store(const DeviceBatch& batch, const AttentionLayer& layer, const float* cosine,
                    const float* sine, __nv_bfloat16* qkv, cudaStream_t stream);

// Bytes of partial results and of counters that decode attention needs. Counters start as zeros and
// are zeros again after each launch.
int64_t decode_workspace_bytes(const AttentionLayer& layer, int64_t singles, int64_t chunks);

// out: [rows, heads · head_dim]
void decode_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                      const __nv_bfloat16* qkv, __nv_bfloat16* out, float* workspace,
                      uint32_t* counters, cudaStream_t stream);
// The same rows with the same bits, by one block for each row and key/value head: faster where rows
// are many, or short (DeviceBatch::walk_heads).
void walk_attention(const DeviceBatch& batch, const AttentionLayer& layer, const __nv_bfloat16* qkv,
                    __nv_bfloat16* out, cudaStream_t stream);
// The rows of the tiles, with the bits that decode_attention would give each.
void prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                       const __nv_bfloat16* qkv, __nv_bfloat16* out, cudaStream_t stream);
// Any head_dim up to 256, any ratio of heads: slow, for small models.
void simple_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                      const __nv_bfloat16* qkv, __nv_bfloat16* out, cudaStream_t stream);

// --- Linear layers ------------------------------------------------------------------------------

// Where a linear's result goes: bf16 or f32 [rows, stride], with bias (f32 [out] or null).
struct Output {
  void* data = nullptr;
  bool f32 = false;
  int64_t stride = 0;
  const float* bias = nullptr;
  bool adds = false;  // of bf16: the result, rounded, is added to what is there
};

// Weights are padded with zeros to a multiple of kRowTile outputs and kDenseStep (or kByteStep)
// inputs.
inline constexpr int kRowTile = 16;
inline constexpr int kDenseStep = 64;   // bf16 weights
inline constexpr int kByteStep = 128;   // 8-bit weights
inline constexpr int kSkinnyRows = 32;  // rows of x that one pass over the weights serves

// y = x Wᵀ for widths that Gemm does not take: the weights stream once per kSkinnyRows rows. A
// row's result does not depend on the others. weight: bf16 [out padded, in padded]; x: [rows, in]
void skinny_bf16(const __nv_bfloat16* weight, int64_t out, int64_t in, const __nv_bfloat16* x,
                 int64_t rows, Output y, cudaStream_t stream);

// --- Matrix products of Hopper (TMA and wgmma) --------------------------------------------------

// y[r][n] = Σ_k x[r][k] · w[n][k], times row_scale[r] · column_scale[n] for 8-bit types. Rows of x
// and w begin at multiples of 16 bytes; `in`: elements, past which x is not read and w holds zeros,
// for 8-bit types a multiple of kByteStep. A row's result does not depend on the others (gemm.cuh).
// gated (Hopper's kernels): w has 2 out rows, and y in bf16 is silu(first half) · second half of
// what it would be without, each rounded first as it would be.
struct Gemm {
  const void* weight = nullptr;  // [w_rows >= out, w_stride bytes]; gated: [2 out, …]
  const void* x = nullptr;       // [rows, x_stride bytes]
  const float* row_scale = nullptr;
  const float* column_scale = nullptr;
  int64_t rows = 0, out = 0, in = 0;
  int64_t x_stride = 0, w_stride = 0, w_rows = 0;
  bool gated = false;
  // [rows], raised to the largest magnitude of each row of y, by its bits in float32; or null. Of
  // gated products of 8-bit types.
  uint32_t* largest = nullptr;
  Output y;
};
void gemm_bf16(const Gemm& gemm, cudaStream_t stream);
void gemm_int8(const Gemm& gemm, cudaStream_t stream);
void gemm_fp8(const Gemm& gemm, cudaStream_t stream);

// 4-bit weights in chunks (int4_layout.h), padded with zeros.
inline constexpr int kInt4Outs = 64;                                // of a chunk
inline constexpr int kInt4Inputs = 128;                             // of a chunk
inline constexpr int kInt4WordBytes = kInt4Outs * kInt4Inputs / 2;  // of a chunk
inline constexpr int kInt4GroupBytes = kInt4Outs * 2;               // a group's scales
// An output is the sum of so many contiguous parts of the inputs, added in their order; a part is
// one running sum over whole chunks.
inline constexpr int kInt4Parts = 8;
struct Int4Weights {
  const uint8_t* chunks = nullptr;
  const float* scale = nullptr;  // [out] powers of two to multiply sums with (Int4Layout)
  int group = 128;               // 32, 64 or 128
  bool offsets = false;          // asymmetric
};
// y[r][n] = Σ_k x[r][k] · bf16((code[n][k] - zero[n][k]) · scale[n][k]).  x: [rows, in], in a
// multiple of 8. A row's result does not depend on the others.
void gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
               int64_t rows, Output y, cudaStream_t stream);
// silu(gate) · up of the `out` first and `out` last of the weights' 2 out outputs, each rounded
// first as gemm_int4 would; meant for more than kFewInt4Rows rows, whose tiles it has. out: a
// multiple of kInt4Outs; y: in bf16, rows beginning at multiples of 16 bytes.
inline constexpr int kFewInt4Rows = 64;
void gated_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                int64_t rows, Output y, cudaStream_t stream);
// As gemm_int4 with the same bits, for up to kSkinnyInt4Rows rows, which gemm_int4 leaves to it.
inline constexpr int kSkinnyInt4Rows = 8;
void skinny_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                 int64_t rows, Output y, cudaStream_t stream);

// --- Logits -------------------------------------------------------------------------------------

// logits: f32 [rows, vocabulary]. queries, out: [rows], of the host's memory or the device's;
// queries must be there when this is called. chosen: [rows]. Sums of exponentials in double.
void summarize_logits(const float* logits, const LogitQuery* queries, LogitSummary* out,
                      int32_t* chosen, int64_t rows, int64_t vocabulary, cudaStream_t stream);
// How far each row of q lies from the same of p, f32 [rows, vocabulary] both. targets, out: [rows].
void compare_logits(const float* p, const float* q, const int32_t* targets, LogitDivergence* out,
                    int64_t rows, int64_t vocabulary, cudaStream_t stream);
// After summarize_logits(), for rows with a temperature: the token that ops/sampling.h defines, in
// `out` and `chosen`.
void sample_logits(const float* logits, const LogitQuery* queries, LogitSummary* out,
                   int32_t* chosen, int64_t rows, int64_t vocabulary, cudaStream_t stream);

}  // namespace narrow::ops::cuda
