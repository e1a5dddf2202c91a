// A dense row-major matrix in a backend's memory (host memory for `reference` and `cpu`). Does not
// own. Its element type is the backend's activation type unless said otherwise.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace narrow::ops {

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;

  // Host backends only. REQUIRES: T is the element type.
  template <class T>
  T* row(int64_t r) const {
    return static_cast<T*>(data) + r * cols;
  }
};

}  // namespace narrow::ops
