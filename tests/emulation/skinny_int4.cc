#include "ops/cuda/skinny_int4.cu"
