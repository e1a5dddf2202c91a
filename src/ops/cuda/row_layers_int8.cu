#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

void row_layers_int8(const RowLayers& work, cudaStream_t stream) {
  run_row_layers<RowInt8>(work, stream);
}

}  // namespace narrow::ops::cuda
