#include "ops/cuda/sampling.cu"
