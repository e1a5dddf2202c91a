#include "ops/cuda/rope.cu"
