#include "ops/cuda/gemm_int8_split.cu"
