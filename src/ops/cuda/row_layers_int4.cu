#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

void row_layers_int4(const RowLayers& work, cudaStream_t stream) {
  work.offsets ? run_row_layers<RowInt4<true>>(work, stream)
               : run_row_layers<RowInt4<false>>(work, stream);
}

}  // namespace narrow::ops::cuda
