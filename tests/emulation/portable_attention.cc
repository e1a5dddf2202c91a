#include "ops/cuda/portable_attention.cu"
