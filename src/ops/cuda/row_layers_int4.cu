#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

void row_layers_int4(const RowLayers& work, cudaStream_t stream) {
  run_row_layers<RowInt4>(work, stream);
}

}  // namespace narrow::ops::cuda
