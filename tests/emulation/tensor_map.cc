#include "ops/cuda/tensor_map.cc"
