#include "tensor/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.h"

namespace narrow {
namespace {

constexpr size_t kAlignment = 64, kHugePage = size_t{2} << 20, kLarge = 2 * kHugePage;

size_t round_up(size_t size, size_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

[[noreturn]] void fail_for_memory(size_t bytes) {
  throw Error::failed("out of memory for " + std::to_string(bytes) + " bytes");
}

// Any bytes, and zeros up to the next multiple of kAlignment. What is large lies in huge pages
// where the system has them to give: a file is read into them several times as fast as into fresh
// small ones, of which each is a fault.
std::shared_ptr<std::byte[]> allocate(size_t bytes) {
  const size_t alignment = bytes >= kLarge ? kHugePage : kAlignment;
  const size_t all = round_up(bytes, alignment);
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, all));
  if (!data) fail_for_memory(bytes);
  if (bytes >= kLarge) madvise(data, all, MADV_HUGEPAGE);  // a wish
  std::memset(data + bytes, 0, round_up(bytes, kAlignment) - bytes);
  return {data, [](std::byte* p) { std::free(p); }};
}

// Zeros. Large ones are the system's own, which take memory when they are touched: much of a cache
// of keys and values may never be.
std::shared_ptr<std::byte[]> allocate_zeros(size_t bytes) {
  if (bytes < kLarge) {
    auto data = allocate(bytes);
    std::memset(data.get(), 0, bytes);
    return data;
  }
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) fail_for_memory(bytes);
  return {static_cast<std::byte*>(data), [bytes](std::byte* p) { munmap(p, bytes); }};
}

template <class From>
void widen(std::span<const From> from, std::span<float> to) {
  for (size_t i = 0; i < from.size(); ++i) {
    if constexpr (std::is_arithmetic_v<From>) {
      to[i] = static_cast<float>(from[i]);
    } else {
      to[i] = to_float(from[i]);
    }
  }
}

}  // namespace

Tensor::Tensor(DType dtype, std::vector<int64_t> shape) : dtype_(dtype), shape_(std::move(shape)) {
  bytes_ = elements() * size_of(dtype);
  if (bytes_ > 0) data_ = allocate_zeros(static_cast<size_t>(bytes_));
}

Tensor Tensor::unfilled(DType dtype, std::vector<int64_t> shape) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = std::move(shape);
  tensor.bytes_ = tensor.elements() * size_of(dtype);
  if (tensor.bytes_ > 0) tensor.data_ = allocate(static_cast<size_t>(tensor.bytes_));
  return tensor;
}

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t dim : shape_) count *= dim;
  return count;
}

Tensor Tensor::clone() const {
  Tensor copy = unfilled(dtype_, shape_);
  if (bytes_ > 0) std::memcpy(copy.data(), data(), static_cast<size_t>(bytes_));
  return copy;
}

Tensor Tensor::reshaped(std::vector<int64_t> shape) const {
  Tensor other = *this;
  other.shape_ = std::move(shape);
  assert(other.elements() == elements());
  return other;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  if (dtype != DType::f32) {
    const Tensor wide = to(DType::f32);
    const auto from = wide.as<float>();
    Tensor result(dtype, shape_);
    if (dtype == DType::bf16) {
      std::ranges::transform(from, result.as<bf16>().begin(), to_bf16);
    } else if (dtype == DType::f16) {
      std::ranges::transform(from, result.as<f16>().begin(), to_f16);
    } else if (dtype == DType::f8_e4m3) {
      std::ranges::transform(from, result.as<f8_e4m3>().begin(), to_f8_e4m3);
    } else {
      throw Error::failed("no conversion to " + std::string(name_of(dtype)));
    }
    return result;
  }
  Tensor result(DType::f32, shape_);
  const auto out = result.as<float>();
  switch (dtype_) {
    case DType::f32:
      break;
    case DType::f16:
      widen(as<f16>(), out);
      break;
    case DType::bf16:
      widen(as<bf16>(), out);
      break;
    case DType::f8_e4m3:
      widen(as<f8_e4m3>(), out);
      break;
    case DType::i8:
      widen(as<int8_t>(), out);
      break;
    case DType::u8:
      widen(as<uint8_t>(), out);
      break;
    case DType::i32:
      widen(as<int32_t>(), out);
      break;
    case DType::i64:
      widen(as<int64_t>(), out);
      break;
  }
  return result;
}

std::string to_string(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace narrow
