#include "ops/cuda/portable_bf16.cu"
#include "ops/cuda/portable_fp8.cu"
#include "ops/cuda/portable_int8.cu"
