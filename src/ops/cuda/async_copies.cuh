// Copies to shared memory that a thread starts and waits for in groups (cp.async).
#pragma once

#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

inline constexpr int kUnitBytes = 16;  // of a copy, of a lane's load

// A unit from global to shared memory; zeros where it is not `there` (`from` is then not read).
// to: a shared address, or a pointer into shared memory. wanted: else nothing happens.
__device__ inline void copy_unit_async(uint32_t to, const void* from, bool there,
                                       bool wanted = true) {
  asm volatile(
      "{\n\t.reg .pred wanted;\n\tsetp.ne.u32 wanted, %3, 0;\n\t"
      "@wanted cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n\t}" ::"r"(to),
      "l"(from), "r"(there ? kUnitBytes : 0), "r"(static_cast<uint32_t>(wanted))
      : "memory");
}
__device__ inline void copy_unit_async(void* to, const void* from, bool there) {
  copy_unit_async(static_cast<uint32_t>(__cvta_generic_to_shared(to)), from, there);
}

__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most `pending` of the latest groups are under way.
inline constexpr int kMostPending = 6;
__device__ inline void wait_for_copies(int pending) {
  switch (pending) {
    case 0:
      asm volatile("cp.async.wait_group 0;" ::: "memory");
      break;
    case 1:
      asm volatile("cp.async.wait_group 1;" ::: "memory");
      break;
    case 2:
      asm volatile("cp.async.wait_group 2;" ::: "memory");
      break;
    case 3:
      asm volatile("cp.async.wait_group 3;" ::: "memory");
      break;
    case 4:
      asm volatile("cp.async.wait_group 4;" ::: "memory");
      break;
    case 5:
      asm volatile("cp.async.wait_group 5;" ::: "memory");
      break;
    default:
      asm volatile("cp.async.wait_group %0;" ::"n"(kMostPending) : "memory");
  }
}

}  // namespace narrow::ops::cuda
