// An owning, dense, row-major array of any rank in host memory. Copies share the bytes; whoever
// writes into a shared tensor takes clone() first. 64-byte aligned.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace narrow {

class Tensor {
 public:
  Tensor() = default;
  // Zeroed. REQUIRES: dimensions not negative and the product checked (base/checked.h) when it
  // comes from outside.
  Tensor(DType dtype, std::vector<int64_t> shape);
  // The same with any bytes, for whoever writes all of them: zeros are a pass over memory of their
  // own. REQUIRES: as above.
  static Tensor unfilled(DType dtype, std::vector<int64_t> shape);

  bool empty() const { return bytes_ == 0; }
  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t dim(size_t axis) const { return shape_.at(axis); }
  int64_t elements() const;
  int64_t size_bytes() const { return bytes_; }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  std::span<std::byte> raw() { return {data_.get(), static_cast<size_t>(bytes_)}; }
  std::span<const std::byte> raw() const { return {data_.get(), static_cast<size_t>(bytes_)}; }

  // REQUIRES: T is the element type.
  template <class T>
  std::span<T> as() {
    assert(dtype_of<T>() == dtype_);
    return {reinterpret_cast<T*>(data_.get()), static_cast<size_t>(elements())};
  }
  template <class T>
  std::span<const T> as() const {
    assert(dtype_of<T>() == dtype_);
    return {reinterpret_cast<const T*>(data_.get()), static_cast<size_t>(elements())};
  }
  // REQUIRES: rank 2.
  template <class T>
  View<T> matrix() {
    return {as<T>().data(), dim(0), dim(1)};
  }
  template <class T>
  View<const T> matrix() const {
    return {as<T>().data(), dim(0), dim(1)};
  }

  Tensor clone() const;
  // Same bytes, other shape. REQUIRES: same number of elements.
  Tensor reshaped(std::vector<int64_t> shape) const;
  // Converted element by element: f32, f16, bf16, f8_e4m3 and integers to f32; f32 to bf16/f16/f8.
  Tensor to(DType dtype) const;

 private:
  DType dtype_ = DType::f32;
  std::vector<int64_t> shape_;
  int64_t bytes_ = 0;
  std::shared_ptr<std::byte[]> data_;
};

std::string to_string(const std::vector<int64_t>& shape);  // "[576, 1536]"

}  // namespace narrow
