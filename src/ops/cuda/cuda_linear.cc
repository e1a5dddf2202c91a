#include "ops/cuda/cuda_linear.h"

#include <cstring>
#include <limits>

#include "ops/check.h"
#include "ops/cuda/divide.h"
#include "ops/cuda/int4_layout.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {
namespace {

// A part in host memory, and others of its kind whose outputs stand beside it.
struct HostPart {
  CudaPart::Kind kind = CudaPart::Kind::bf16;
  int64_t in_padded = 0, out = 0;
  int group = 0;
  bool offsets = false;
  std::vector<int32_t> columns;    // as CudaPart has them
  std::vector<Tensor> weights;     // bytes of the parts, one behind the other on the device
  std::vector<float> scale, bias;  // [out padded], [out]; empty: none
};

// Rows [out, in] with zeros up to in_padded; shared where nothing is to be added. Rows of zeros at
// the end are the device's.
Tensor padded_rows(const Tensor& rows, int64_t in_padded, ThreadPool& pool) {
  const int64_t out = rows.dim(0), element = size_of(rows.dtype());
  const int64_t from = rows.dim(1) * element, to = in_padded * element;
  if (from == to) return rows;
  Tensor result(rows.dtype(), {out, in_padded});
  pool.parallel_for(out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      std::memcpy(result.data() + n * to, rows.data() + n * from, static_cast<size_t>(from));
  });
  return result;
}

std::vector<float> scales_per_output(const PackedLinear& linear) {
  const Tensor wide = linear.scale.to(DType::f32);
  const auto values = wide.as<float>();
  std::vector<float> scales(static_cast<size_t>(round_up(linear.out, kRowTile)), 0);
  for (size_t n = 0; n < static_cast<size_t>(linear.out); ++n)
    scales[n] = values[values.size() == 1 ? 0 : n];
  return scales;
}

// Kernels that make bf16 of e4m3 know no NaN: what one makes of every result of its output, the
// scale does.
void move_nans_to_scales(const PackedLinear& linear, std::vector<float>& scales, ThreadPool& pool) {
  const auto* codes = reinterpret_cast<const uint8_t*>(linear.weight.data());
  pool.parallel_for(linear.out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const auto of_row = std::span(codes + n * linear.in, static_cast<size_t>(linear.in));
      bool nan = false;
      for (const uint8_t code : of_row) nan |= (code & 0x7f) == 0x7f;
      if (nan) scales[static_cast<size_t>(n)] = std::numeric_limits<float>::quiet_NaN();
    }
  });
}

HostPart make_host_part(const PackedLinear& linear, bool fp8_inputs, ThreadPool& pool) {
  HostPart part;
  part.out = linear.out;
  const InputKind input = input_kind(linear.scheme);
  const bool fp8_weights = input == InputKind::fp8_per_token && !fp8_inputs;
  if (runs_as_int4(linear)) {
    const Int4Layout layout = make_int4_layout(linear, pool);
    part.kind = CudaPart::Kind::int4;
    part.in_padded = layout.in_padded;
    part.group = layout.group;
    part.offsets = layout.offsets;
    part.columns = layout.columns;
    part.weights = {layout.chunks};
    part.scale = layout.factors;
  } else if (input != InputKind::plain && !(fp8_weights && linear.in % 8 != 0)) {
    part.kind = input == InputKind::int8_per_token ? CudaPart::Kind::int8
                : fp8_weights                      ? CudaPart::Kind::fp8_weights
                                                   : CudaPart::Kind::fp8;
    part.in_padded = round_up(linear.in, kByteStep);
    part.weights = {padded_rows(linear.weight, part.in_padded, pool)};
    part.scale = scales_per_output(linear);
    if (fp8_weights) move_nans_to_scales(linear, part.scale, pool);
  } else {
    const bool as_stored = linear.scheme.dense() && linear.weight.dtype() == DType::bf16;
    const Tensor dense = as_stored ? linear.weight : dequantize(linear).to(DType::bf16);
    part.in_padded = round_up(linear.in, kDenseStep);
    part.weights = {padded_rows(dense, part.in_padded, pool)};
  }
  if (!linear.bias.empty()) {
    const Tensor bias = linear.bias.to(DType::f32);
    part.bias.assign(bias.as<float>().begin(), bias.as<float>().end());
  }
  return part;
}

bool can_join(const HostPart& a, const HostPart& b) {
  return a.kind == b.kind && a.in_padded == b.in_padded && a.group == b.group &&
         a.offsets == b.offsets && a.columns == b.columns &&
         a.out % (a.kind == CudaPart::Kind::int4 ? kInt4Outs : kRowTile) == 0;
}

void join(HostPart& a, const HostPart& b) {
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(a.weights, b.weights);
  append(a.scale, b.scale);
  if (!a.bias.empty() || !b.bias.empty()) {
    a.bias.resize(static_cast<size_t>(a.out), 0);
    append(a.bias, b.bias);
    a.bias.resize(static_cast<size_t>(a.out + b.out), 0);
  }
  a.out += b.out;
}

template <class T>
DeviceBuffer on_device(const std::vector<T>& values, cudaStream_t stream) {
  if (values.empty()) return {};
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
  DeviceBuffer buffer = allocate(bytes, stream);
  copy_to_device(buffer.data.get(), values.data(), bytes, stream);
  return buffer;
}

}  // namespace

CudaLinear::CudaLinear(std::span<const PackedLinear> given, bool fp8_inputs, ThreadPool& pool,
                       Uploader& uploader, cudaStream_t stream)
    : in_(given.front().in) {
  std::vector<HostPart> joined;
  for (const PackedLinear& linear : given) {
    HostPart part = make_host_part(linear, fp8_inputs, pool);
    if (!joined.empty() && can_join(joined.back(), part)) {
      join(joined.back(), part);
    } else {
      joined.push_back(std::move(part));
    }
  }
  for (const HostPart& from : joined) {
    CudaPart part;
    part.kind = from.kind;
    part.in = in_;
    part.in_padded = from.in_padded;
    part.out = from.out;
    part.column = out_;
    part.group = from.group;
    part.offsets = from.offsets;
    int64_t bytes = 0;
    for (const Tensor& weight : from.weights) bytes += weight.size_bytes();
    // 4-bit weights come padded; of others, rows of zeros fill the last tile.
    const int64_t row_bytes = part.in_padded * (part.kind == CudaPart::Kind::bf16 ? 2 : 1);
    if (part.kind != CudaPart::Kind::int4) bytes = part.out_padded() * row_bytes;
    part.weight = allocate(bytes, stream);
    int64_t done = 0;
    for (const Tensor& weight : from.weights) {
      uploader.copy(static_cast<std::byte*>(part.weight.data.get()) + done, weight.data(),
                    weight.size_bytes());
      done += weight.size_bytes();
    }
    part.scale = on_device(from.scale, stream);
    part.bias = on_device(from.bias, stream);
    part.columns = on_device(from.columns, stream);
    bytes_ += part.weight.size_bytes + part.scale.size_bytes + part.columns.size_bytes;
    out_ += from.out;
    parts_.push_back(std::move(part));
  }
}

}  // namespace narrow::ops::cuda
