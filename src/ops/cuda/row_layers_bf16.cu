#include "ops/cuda/row_layers.cuh"

namespace narrow::ops::cuda {

int row_attention_bytes(const AttentionLayer& layer) {
  return 4 * row_attention_bytes(layer.heads / layer.kv_heads, layer.head_dim);
}

void row_layers_bf16(const RowLayers& work, cudaStream_t stream) {
  run_row_layers<RowBf16>(work, stream);
}

}  // namespace narrow::ops::cuda
