// Linear layers laid out for the CUDA kernels (kernels.h). Neighbouring parts of one kind are
// joined into one matrix, so that q, k, v and gate, up are one product each.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {

struct CudaPart {
  // fp8_weights: e4m3 against bf16 inputs.
  enum class Kind { bf16, int8, fp8, fp8_weights, int4 };
  Kind kind = Kind::bf16;
  int64_t in = 0, in_padded = 0, out = 0;
  int64_t column = 0;  // where its outputs begin in the layer's
  // scale: f32 of outputs, of 8-bit weights; of 4-bit ones Int4Layout::factors.
  DeviceBuffer weight, scale, bias;
  int group = 0;         // of 4-bit weights, whose scales lie in `weight`
  bool offsets = false;  // of asymmetric ones
  // i32 [in], which of x's columns each of the weight's is of; empty: they stand as in x.
  DeviceBuffer columns;

  // Rows of zeros fill the weight up to this.
  int64_t out_padded() const { return (out + kRowTile - 1) / kRowTile * kRowTile; }
  Codes input() const {
    return kind == Kind::int8 ? Codes::int8 : kind == Kind::fp8 ? Codes::fp8 : Codes::none;
  }
  Int4Weights int4() const {
    return {static_cast<const uint8_t*>(weight.data.get()),
            static_cast<const float*>(scale.data.get()), group, offsets};
  }
};

class CudaLinear : public Linear {
 public:
  // Schemes without a kernel of their own run as bf16 of the dequantized weight. fp8_inputs: e4m3
  // weights multiply e4m3 inputs where their scheme says so; otherwise bf16.
  CudaLinear(std::span<const PackedLinear> parts, bool fp8_inputs, ThreadPool& pool,
             Uploader& uploader, cudaStream_t stream);
  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  int64_t weight_bytes() const override { return bytes_; }
  const std::vector<CudaPart>& parts() const { return parts_; }

 private:
  int64_t in_ = 0, out_ = 0, bytes_ = 0;
  std::vector<CudaPart> parts_;
};

}  // namespace narrow::ops::cuda
