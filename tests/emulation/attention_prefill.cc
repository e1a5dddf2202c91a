#include "ops/cuda/attention_prefill.cu"
