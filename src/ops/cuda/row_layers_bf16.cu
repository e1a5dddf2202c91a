#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

void row_layers_bf16(const RowLayers& work, cudaStream_t stream) {
  run_row_layers<RowBf16>(work, stream);
}

}  // namespace narrow::ops::cuda
