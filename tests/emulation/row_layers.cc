#include "ops/cuda/row_layers_bf16.cu"
#include "ops/cuda/row_layers_fp8.cu"
#include "ops/cuda/row_layers_int8.cu"
#include "ops/cuda/row_layers_memory.cu"
