#include "ops/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "ops/activation.h"
#include "ops/check.h"
#include "ops/host_memory.h"

namespace narrow::ops {
namespace {

// Weights as float, transposed to [in, out], so that the loop over outputs is the inner one: every
// output still adds its products in the order of the inputs.
struct ReferencePart {
  Scheme scheme;
  int64_t out = 0;
  std::vector<float> weight;  // [in, out]; for quantized inputs the bare codes
  std::vector<float> scale;   // [out]; only for quantized inputs
  std::vector<float> bias;    // [out] or empty
};

class ReferenceLinear : public Linear {
 public:
  explicit ReferenceLinear(std::span<const PackedLinear> parts) : in_(parts.front().in) {
    for (const PackedLinear& part : parts) {
      ReferencePart own;
      own.scheme = part.scheme;
      own.out = part.out;
      const bool codes = input_kind(part.scheme) != InputKind::plain;
      const Tensor weight = (codes ? part.weight : dequantize(part)).to(DType::f32);
      own.weight.resize(static_cast<size_t>(in_ * part.out));
      const auto from = weight.as<float>();
      for (int64_t n = 0; n < part.out; ++n)
        for (int64_t k = 0; k < in_; ++k)
          own.weight[static_cast<size_t>(k * part.out + n)] =
              from[static_cast<size_t>(n * in_ + k)];
      if (codes) {
        const Tensor scale = part.scale.to(DType::f32);
        const auto values = scale.as<float>();
        own.scale.resize(static_cast<size_t>(part.out));
        for (size_t n = 0; n < own.scale.size(); ++n)
          own.scale[n] = values[values.size() == 1 ? 0 : n];
      }
      if (!part.bias.empty()) {
        const Tensor bias = part.bias.to(DType::f32);
        own.bias.assign(bias.as<float>().begin(), bias.as<float>().end());
      }
      out_ += part.out;
      bytes_ += part.size_bytes();
      parts_.push_back(std::move(own));
    }
  }

  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  int64_t weight_bytes() const override { return bytes_; }
  const std::vector<ReferencePart>& parts() const { return parts_; }

 private:
  int64_t in_ = 0, out_ = 0, bytes_ = 0;
  std::vector<ReferencePart> parts_;
};

class ReferenceBackend : public HostBackend {
 public:
  std::string_view name() const override { return "reference"; }
  std::string describe() const override { return "reference: float32, 1 thread"; }
  DType kv_dtype() const override { return DType::f32; }
  bool runs_kv(DType dtype) const override {
    return dtype == DType::f32 || dtype == DType::f8_e4m3;
  }
  using HostBackend::prepare;

  std::unique_ptr<Linear> prepare(std::span<const PackedLinear> parts) override {
    check_parts(parts);
    return std::make_unique<ReferenceLinear>(parts);
  }

  void linear(const Linear& layer, Matrix x, Matrix y) override {
    check_linear(layer, x, y);
    const auto& reference = static_cast<const ReferenceLinear&>(layer);
    for (int64_t r = 0; r < x.rows; ++r) {
      float* out = y.row<float>(r);
      for (const ReferencePart& part : reference.parts()) {
        linear_row(part, {x.row<float>(r), static_cast<size_t>(x.cols)}, out);
        out += part.out;
      }
    }
  }

  void rms_norm(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix y) override {
    check_rms_norm(x, gamma, y);
    for (int64_t r = 0; r < x.rows; ++r) {
      const float* from = x.row<float>(r);
      float* to = y.row<float>(r);
      float squares = 0;
      for (int64_t c = 0; c < x.cols; ++c) squares += from[c] * from[c];
      const float factor = 1 / std::sqrt(squares / static_cast<float>(x.cols) + epsilon);
      for (int64_t c = 0; c < x.cols; ++c) to[c] = from[c] * factor * floats(gamma)[c];
    }
  }

  void add(Matrix residual, Matrix x) override {
    check_same_shape(residual, x, "add");
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t c = 0; c < x.cols; ++c) residual.row<float>(r)[c] += x.row<float>(r)[c];
  }

  void silu_mul(Matrix gate_up, Matrix y) override {
    check_silu_mul(gate_up, y);
    for (int64_t r = 0; r < y.rows; ++r) {
      const float* gate = gate_up.row<float>(r);
      const float* up = gate + y.cols;
      for (int64_t c = 0; c < y.cols; ++c)
        y.row<float>(r)[c] = gate[c] / (1 + std::exp(-gate[c])) * up[c];
    }
  }

  void rope_and_store(const Plan& plan, const AttentionShape& shape, const DeviceBuffer& cosine,
                      const DeviceBuffer& sine, Matrix qkv, const DeviceBuffer& kv) override {
    check_attention(plan, shape, qkv, kv, size_of(dtype_of_cache(kv)));
    const int64_t half = shape.head_dim / 2;
    for (const Batch::Sequence& sequence : plan.batch().sequences) {
      for (int64_t i = 0; i < sequence.rows; ++i) {
        const int64_t r = sequence.first_row + i;
        const int64_t position = plan.batch().positions[static_cast<size_t>(r)];
        float* row = qkv.row<float>(r);
        for (int64_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
          float* x = row + head * shape.head_dim;
          for (int64_t d = 0; d < half; ++d) {
            const float c = floats(cosine)[position * half + d];
            const float s = floats(sine)[position * half + d];
            const float low = x[d], high = x[d + half];
            x[d] = low * c - high * s;
            x[d + half] = high * c + low * s;
          }
        }
        const int64_t slot = sequence.context - sequence.rows + i;
        for (int64_t kv_head = 0; kv_head < 2 * shape.kv_heads; ++kv_head) {
          const float* from = row + (shape.heads + kv_head) * shape.head_dim;
          const int64_t at = cache_row(shape, sequence, kv_head, slot);
          for (int64_t d = 0; d < shape.head_dim; ++d) store_cached(kv, at + d, from[d]);
        }
      }
    }
  }

  void attention(const Plan& plan, const AttentionShape& shape, Matrix qkv, const DeviceBuffer& kv,
                 Matrix out) override {
    check_attention(plan, shape, qkv, kv, size_of(dtype_of_cache(kv)));
    const int64_t queries_per_kv = shape.heads / shape.kv_heads;
    std::vector<float> weights;
    for (const Batch::Sequence& sequence : plan.batch().sequences) {
      for (int64_t i = 0; i < sequence.rows; ++i) {
        const int64_t visible = sequence.context - sequence.rows + i + 1;
        for (int64_t head = 0; head < shape.heads; ++head) {
          const float* q = qkv.row<float>(sequence.first_row + i) + head * shape.head_dim;
          float* to = out.row<float>(sequence.first_row + i) + head * shape.head_dim;
          const int64_t kv_head = head / queries_per_kv;
          weights.assign(static_cast<size_t>(visible), 0);
          float largest = -INFINITY;
          for (int64_t t = 0; t < visible; ++t) {
            const int64_t k = cache_row(shape, sequence, kv_head, t);
            float dot = 0;
            for (int64_t d = 0; d < shape.head_dim; ++d) dot += q[d] * cached(kv, k + d);
            weights[static_cast<size_t>(t)] = dot * shape.scale;
            largest = std::max(largest, dot * shape.scale);
          }
          float total = 0;
          for (float& weight : weights) total += weight = std::exp(weight - largest);
          std::fill(to, to + shape.head_dim, 0.0f);
          for (int64_t t = 0; t < visible; ++t) {
            const int64_t v = cache_row(shape, sequence, shape.kv_heads + kv_head, t);
            const float share = weights[static_cast<size_t>(t)] / total;
            for (int64_t d = 0; d < shape.head_dim; ++d) to[d] += share * cached(kv, v + d);
          }
        }
      }
    }
  }

 private:
  // Where a token's numbers begin in the cache. kv_head: 0 … kv_heads - 1 for keys, kv_heads …
  // 2 kv_heads - 1 for values.
  static int64_t cache_row(const AttentionShape& shape, const Batch::Sequence& sequence,
                           int64_t kv_head, int64_t slot) {
    const int64_t block = sequence.blocks[static_cast<size_t>(slot / kKvBlockTokens)];
    const int64_t row =
        (block * 2 * shape.kv_heads + kv_head) * kKvBlockTokens + slot % kKvBlockTokens;
    return row * shape.head_dim;
  }
  static DType dtype_of_cache(const DeviceBuffer& kv) {
    return kv.dtype == DType::f8_e4m3 ? DType::f8_e4m3 : DType::f32;
  }
  static float cached(const DeviceBuffer& kv, int64_t at) {
    if (kv.dtype == DType::f8_e4m3) return to_float(static_cast<const f8_e4m3*>(kv.data.get())[at]);
    return static_cast<const float*>(kv.data.get())[at];
  }
  static void store_cached(const DeviceBuffer& kv, int64_t at, float value) {
    if (kv.dtype == DType::f8_e4m3) {
      static_cast<f8_e4m3*>(kv.data.get())[at] = to_f8_e4m3(value);
    } else {
      static_cast<float*>(kv.data.get())[at] = value;
    }
  }

  static void multiply(const ReferencePart& part, std::span<const float> x, float* out) {
    std::fill(out, out + part.out, 0.0f);
    for (size_t k = 0; k < x.size(); ++k) {
      const float* row = part.weight.data() + static_cast<int64_t>(k) * part.out;
      for (int64_t n = 0; n < part.out; ++n) out[n] += x[k] * row[n];
    }
  }

  static void linear_row(const ReferencePart& part, std::span<const float> x, float* out) {
    const InputKind kind = input_kind(part.scheme);
    if (kind == InputKind::plain) {
      multiply(part, x, out);
    } else {
      std::vector<float> codes(x.size());
      float scale;
      if (kind == InputKind::int8_per_token) {
        std::vector<int8_t> quantized(x.size());
        scale = quantize_int8(x, quantized.data());
        std::copy(quantized.begin(), quantized.end(), codes.begin());
        multiply_exact(part, codes, out);
      } else {
        std::vector<f8_e4m3> quantized(x.size());
        scale = quantize_fp8(x, quantized.data());
        for (size_t k = 0; k < x.size(); ++k) codes[k] = to_float(quantized[k]);
        multiply(part, codes, out);
      }
      for (int64_t n = 0; n < part.out; ++n) out[n] *= scale * part.scale[static_cast<size_t>(n)];
    }
    if (!part.bias.empty())
      for (int64_t n = 0; n < part.out; ++n) out[n] += part.bias[static_cast<size_t>(n)];
  }

  // Integer codes: the sum is exact in 32 bits (127 · 128 · 130 000 inputs), then rounded once.
  static void multiply_exact(const ReferencePart& part, std::span<const float> codes, float* out) {
    std::vector<int32_t> sums(static_cast<size_t>(part.out), 0);
    for (size_t k = 0; k < codes.size(); ++k) {
      const float* row = part.weight.data() + static_cast<int64_t>(k) * part.out;
      for (int64_t n = 0; n < part.out; ++n)
        sums[static_cast<size_t>(n)] +=
            static_cast<int32_t>(codes[k]) * static_cast<int32_t>(row[n]);
    }
    for (int64_t n = 0; n < part.out; ++n)
      out[n] = static_cast<float>(sums[static_cast<size_t>(n)]);
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace narrow::ops
