#include "ops/cuda/attention_walk.cu"
