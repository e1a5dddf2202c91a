#include "ops/cuda/norm.cu"
