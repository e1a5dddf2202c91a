#include "ops/cuda/attention_simple.cu"
