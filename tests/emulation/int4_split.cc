#include "ops/cuda/gemm_int4_split.cu"
