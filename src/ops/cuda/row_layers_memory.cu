// What of a block's shared memory the host must know and only the kernel's headers can tell.
#include "ops/cuda/row_attention.cuh"

namespace narrow::ops::cuda {

int row_attention_bytes(const AttentionLayer& layer) {
  return kRowGroups * row_attention_bytes(layer.heads / layer.kv_heads, layer.head_dim);
}

}  // namespace narrow::ops::cuda
