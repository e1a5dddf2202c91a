// A row-major matrix that somebody else owns. Cheap to copy.
#pragma once

#include <cassert>
#include <cstdint>
#include <span>
#include <type_traits>

namespace narrow {

template <class T>
struct View {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from one row to the next

  View() = default;
  View(T* data, int64_t rows, int64_t cols) : View(data, rows, cols, cols) {}
  View(T* data, int64_t rows, int64_t cols, int64_t stride)
      : data(data), rows(rows), cols(cols), stride(stride) {}
  // View<float> converts to View<const float>.
  operator View<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }

  std::span<T> row(int64_t r) const {
    assert(r >= 0 && r < rows);
    return {data + r * stride, static_cast<size_t>(cols)};
  }
  T& operator()(int64_t r, int64_t c) const { return data[r * stride + c]; }
};

}  // namespace narrow
