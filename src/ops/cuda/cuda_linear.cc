#include "ops/cuda/cuda_linear.h"

#include <cstring>

#include "ops/check.h"
#include "ops/cuda/int4_layout.h"
#include "ops/cuda/memory.h"

namespace narrow::ops::cuda {
namespace {

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// A part as bytes in host memory, ready to be appended to another of its kind.
struct HostPart {
  CudaPart::Kind kind = CudaPart::Kind::bf16;
  int64_t in_padded = 0, out = 0;
  int group = 0;
  std::vector<std::byte> weight, scale, offsets;
  std::vector<float> bias;  // [out]; empty: none
};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Rows [out, in] with zeros up to [out padded, in_padded].
std::vector<std::byte> padded_rows(const std::byte* rows, int64_t out, int64_t in,
                                   int64_t in_padded, int64_t element, ThreadPool& pool) {
  std::vector<std::byte> result(static_cast<size_t>(round_up(out, kRowTile) * in_padded * element));
  pool.parallel_for(out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      std::memcpy(result.data() + n * in_padded * element, rows + n * in * element,
                  static_cast<size_t>(in * element));
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

HostPart make_host_part(const PackedLinear& linear, ThreadPool& pool) {
  HostPart part;
  part.out = linear.out;
  const InputKind input = input_kind(linear.scheme);
  if (runs_as_int4(linear)) {
    const Int4Layout layout = make_int4_layout(linear, pool);
    part.kind = CudaPart::Kind::int4;
    part.in_padded = layout.in_padded;
    part.group = layout.group;
    part.weight = bytes_of(layout.words);
    part.scale = bytes_of(layout.scales);
    part.offsets = bytes_of(layout.offsets);
  } else if (input != InputKind::plain) {
    part.kind = input == InputKind::int8_per_token ? CudaPart::Kind::int8 : CudaPart::Kind::fp8;
    part.in_padded = round_up(linear.in, kByteStep);
    part.weight = padded_rows(linear.weight.data(), linear.out, linear.in, part.in_padded, 1, pool);
    part.scale = bytes_of(scales_per_output(linear));
  } else {
    const bool as_stored = linear.scheme.dense() && linear.weight.dtype() == DType::bf16;
    const Tensor dense = as_stored ? linear.weight : dequantize(linear).to(DType::bf16);
    part.in_padded = round_up(linear.in, kDenseStep);
    part.weight = padded_rows(dense.data(), linear.out, linear.in, part.in_padded, 2, pool);
  }
  if (!linear.bias.empty()) {
    const Tensor bias = linear.bias.to(DType::f32);
    part.bias.assign(bias.as<float>().begin(), bias.as<float>().end());
  }
  return part;
}

bool can_join(const HostPart& a, const HostPart& b) {
  return a.kind == b.kind && a.in_padded == b.in_padded && a.group == b.group &&
         a.offsets.empty() == b.offsets.empty() && a.out % kRowTile == 0;
}

void join(HostPart& a, const HostPart& b) {
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(a.weight, b.weight);
  append(a.scale, b.scale);
  append(a.offsets, b.offsets);
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

Int4Weights CudaPart::int4() const {
  return {static_cast<const uint4*>(weight.data.get()),
          static_cast<const uint32_t*>(scale.data.get()),
          static_cast<const uint32_t*>(offsets.data.get()), group};
}

CudaLinear::CudaLinear(std::span<const PackedLinear> given, ThreadPool& pool, cudaStream_t stream)
    : in_(given.front().in) {
  std::vector<HostPart> joined;
  for (const PackedLinear& linear : given) {
    HostPart part = make_host_part(linear, pool);
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
    part.weight = on_device(from.weight, stream);
    part.scale = on_device(from.scale, stream);
    part.offsets = on_device(from.offsets, stream);
    part.bias = on_device(from.bias, stream);
    bytes_ += part.weight.size_bytes + part.scale.size_bytes + part.offsets.size_bytes;
    out_ += from.out;
    parts_.push_back(std::move(part));
  }
}

}  // namespace narrow::ops::cuda
