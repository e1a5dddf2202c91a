// A decoder prepared for the kernel that takes all of it over one row (row_layers.cuh).
#pragma once

#include <memory>

#include "ops/cuda/cuda_linear.h"
#include "ops/cuda/row_layers.h"

namespace narrow::ops::cuda {

class RowDecoder : public PreparedDecoder {
 public:
  // Null where the kernel does not fit: layers of several formats, a head that is not bf16, widths
  // that it does not cut, more layers or longer rows than it has room for. On Hopper.
  static std::unique_ptr<RowDecoder> make(const DecoderParts& parts, cudaStream_t stream);

  const AttentionShape& shape() const { return shape_; }
  Matrix qkv() const {
    return {work_.made[kQkv], DType::bf16, 1, int64_t{16} * work_.product[kQkv].tiles};
  }
  // Throws Error::failed unless these are its own.
  void check(Matrix embedded, Matrix logits, std::span<const DeviceBuffer> kv) const;

  // embedded, logits: one row. pieces: pieces_bytes() of the batch, zeros at first, of which only
  // run() changes anything.
  void run(const DeviceBatch& batch, const float* cosine, const float* sine,
           std::span<const DeviceBuffer> kv, bool e4m3, const __nv_bfloat16* embedded,
           float* logits, std::byte* pieces, cudaStream_t stream) const;
  int64_t pieces_bytes(const DeviceBatch& batch) const;

 private:
  void plan_memory();
  void allot_rows(cudaStream_t stream);
  void upload_table(const DecoderParts& parts, cudaStream_t stream);

  RowLayers work_;
  AttentionShape shape_;
  CudaPart::Kind kind_ = CudaPart::Kind::bf16;
  DeviceBuffer table_, rows_, state_;
};

}  // namespace narrow::ops::cuda
