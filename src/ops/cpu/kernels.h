// The inner loops of the cpu backend, one implementation per instruction set, chosen at run time.
// Plain pointers and sizes only: translation units compiled for a wider instruction set include
// nothing else of the project, so that no inline function of a shared header is emitted with
// instructions other machines lack.
//
// Contract of the matrix kernels: every output element adds its products in the order of k, one
// fused multiply-add each, in one accumulator, whatever the number of rows: rows are independent.
#pragma once

#include <cstdint>

namespace narrow::ops::cpu {

inline constexpr int64_t kPanelColumns = 16;  // outputs that are computed side by side

// How the weights of a panel are stored: for each input k, the 16 weights of the panel's outputs.
enum class PanelKind {
  f32,   // 16 floats
  bf16,  // 16 bf16
  fp8,   // 16 e4m3 bytes
  int8,  // 16 signed bytes; value = code · scale + offset of its group
  int4,  // 8 bytes: unsigned codes, byte j holds output j (low) and j + 8 (high); value likewise
};

// One panel: 16 outputs of a layer.
struct Panel {
  PanelKind kind;
  const void* weights;  // [inputs][16] as `kind` says
  const float* scale;   // int8, int4: [groups][16]
  const float* offset;  // int8, int4: [groups][16], -zero_point · scale
  int64_t inputs;
  int64_t group;  // inputs that share a scale; `inputs` for one group
};

struct Kernels {
  const char* name;  // "AVX2"

  // acc[r][j] = Σ_k x[r][k] · w[k][j] for one panel. x: [rows, inputs] float, row stride
  // x_stride. acc: [rows, 16]. scratch: inputs · 16 floats, 32-byte aligned.
  void (*multiply)(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* acc,
                   float* scratch);

  // Exact integer product. weights: [ceil(inputs / 2)][16][2] signed bytes (pairs of inputs, the
  // last padded with 0). x: [rows, inputs rounded up to even] int16. acc: [rows, 16].
  void (*multiply_int8)(const int8_t* weights, int64_t inputs, const int16_t* x, int64_t x_stride,
                        int64_t rows, int32_t* acc, int16_t* scratch);

  // y[i] = bf16(x[i]) as float.
  void (*round_to_bf16)(const float* x, int64_t count, float* y);
  float (*absolute_maximum)(const float* x, int64_t count);
  // Codes of activation.h: int8 as int16, e4m3 as the floats they stand for.
  void (*quantize_int8)(const float* x, int64_t count, float scale, int16_t* codes);
  void (*quantize_fp8)(const float* x, int64_t count, float scale, float* values);

  void (*rms_norm)(const float* x, const float* gamma, int64_t count, float epsilon, float* y);
  void (*add)(float* residual, const float* x, int64_t count);
  // Relative error of the exponential below 2e-7 for |gate| < 80.
  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* y);

  // Attention of `queries` query vectors (heads that share keys and values) over the first
  // `visible` slots of a sequence. block_rows[b]: the keys of block b, [16, head_dim] bf16; values
  // lie value_offset elements further. q, out: [queries, head_dim] with the given strides.
  // weights: queries · (visible rounded up to 8) floats of scratch.
  void (*attend)(const float* q, int64_t q_stride, int64_t queries,
                 const uint16_t* const* block_rows, int64_t value_offset, int64_t visible,
                 int64_t head_dim, float scale, float* weights, float* out, int64_t out_stride);

  // Where the processor multiplies bf16 (AVX512_BF16, AMX), else null: the product of `multiply`
  // from bf16 inputs. Weights are rounded to bf16 and pairs of products are added with a rounding
  // of their own, so sums differ from `multiply`'s in the last bits; rows are as independent. x has
  // rows up to a multiple of kTileRows and a stride that is a multiple of kTileInputs, filled up
  // with zeros; acc has as many rows. scratch: inputs rounded up to kTileInputs, times 32 bytes,
  // 64-byte aligned.
  void (*multiply_bf16)(const Panel& panel, const uint16_t* x, int64_t x_stride, int64_t rows,
                        float* acc, void* scratch) = nullptr;
  // Where it has tiles of int8 (AMX), else null: `multiply_int8` from int8 inputs laid out
  // likewise.
  void (*multiply_int8_tiles)(const int8_t* weights, int64_t inputs, const int8_t* x,
                              int64_t x_stride, int64_t rows, int32_t* acc,
                              void* scratch) = nullptr;
};

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileInputs = 64;

const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_vnni_kernels();
const Kernels* avx512_bf16_kernels();
const Kernels* amx_kernels();

// The implementations that this processor can run, best first; empty without AVX2 and FMA. All
// give the same bits, but for multiply_bf16.
struct Implementations {
  const Kernels* kernels[5];
  int count;
};
Implementations usable_kernels();

}  // namespace narrow::ops::cpu
