#include "ops/cuda/logits.cu"
