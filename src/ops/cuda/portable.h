// Matrix products and prompt attention for every device from Ampere on (mma.sync, cp.async,
// ldmatrix), where kernels.h has others that need Hopper. The same contracts: each enqueues on
// `stream` and returns; a row's result does not depend on the others.
#pragma once

#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

// As gemm_bf16 and gemm_int8.
void portable_bf16(const Gemm& gemm, cudaStream_t stream);
void portable_int8(const Gemm& gemm, cudaStream_t stream);
// Weights are e4m3 (no NaN), x is bf16, `in` of it a multiple of 8:
// y[r][n] = column_scale[n] · Σ_k x[r][k] · w[n][k].
void portable_fp8(const Gemm& gemm, cudaStream_t stream);
// As gemm_int4, with skinny_int4's bits.
void portable_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                   int64_t rows, Output y, cudaStream_t stream);

// As prefill_attention.
void portable_prefill_attention(const DeviceBatch& batch, const AttentionLayer& layer,
                                const __nv_bfloat16* qkv, __nv_bfloat16* out, cudaStream_t stream);

}  // namespace narrow::ops::cuda
