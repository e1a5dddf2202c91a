#include "ops/cuda/attention_decode.cu"
