// Linear layers laid out for the cpu kernels: panels of sixteen outputs (kernels.h).
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/check.h"
#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {

// One part of a CpuLinear. Owns its memory; immutable.
struct CpuPart {
  InputKind input = InputKind::plain;
  bool round_input = true;  // plain inputs are rounded to bf16 first
  PanelKind kind = PanelKind::bf16;
  int64_t in = 0;
  int64_t out = 0;
  int64_t group = 0;
  int64_t groups = 1;
  Tensor weights;       // u8: panels one after another
  Tensor scale;         // f32 [panels][groups][16], integer weight-only kinds
  Tensor offset;        // f32 [panels][groups][16]
  Tensor output_scale;  // f32 [out]: quantized inputs and fp8 weights; empty: none
  Tensor bias;          // f32 [out]; empty: none

  int64_t panels() const { return (out + kPanelColumns - 1) / kPanelColumns; }
  int64_t panel_bytes() const { return weights.size_bytes() / panels(); }
  Panel panel(int64_t index) const;
};

// pool: panels are made side by side; no other loop of it may run.
CpuPart make_part(const PackedLinear& linear, ThreadPool& pool);

class CpuLinear : public Linear {
 public:
  CpuLinear(std::span<const PackedLinear> parts, ThreadPool& pool);
  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  int64_t weight_bytes() const override { return bytes_; }
  const std::vector<CpuPart>& parts() const { return parts_; }

 private:
  int64_t in_ = 0, out_ = 0, bytes_ = 0;
  std::vector<CpuPart> parts_;
};

}  // namespace narrow::ops::cpu
