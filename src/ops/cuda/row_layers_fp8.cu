#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

void row_layers_fp8(const RowLayers& work, cudaStream_t stream) {
  run_row_layers<RowFp8>(work, stream);
}

}  // namespace narrow::ops::cuda
