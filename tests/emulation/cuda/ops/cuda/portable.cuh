// In place of src/ops/cuda/portable.cuh on the host: its asynchronous copies.
#pragma once

#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

inline constexpr int kUnitBytes = 16;

inline void copy_unit_async(uint32_t to, const void* from, bool there, bool wanted = true) {
  if (wanted) emulation::start_copy(to, from, there);
}
inline void commit_copies() { emulation::commit_copies(); }
inline void wait_for_copies(int pending) { emulation::wait_for_copies(pending); }

}  // namespace narrow::ops::cuda
