// In place of src/ops/cuda/async_copies.cuh on the host.
#pragma once

#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

inline constexpr int kUnitBytes = 16;

inline void copy_unit_async(uint32_t to, const void* from, bool there, bool wanted = true) {
  if (wanted) emulation::start_copy(to, from, there);
}
inline void copy_unit_async(void* to, const void* from, bool there) {
  copy_unit_async(shared_address(to), from, there);
}
inline constexpr int kMostPending = 6;
inline void commit_copies() { emulation::commit_copies(); }
inline void wait_for_copies(int pending) { emulation::wait_for_copies(pending); }

}  // namespace narrow::ops::cuda
