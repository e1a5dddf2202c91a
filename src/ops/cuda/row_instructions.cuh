// Instructions of the kernel of whole layers (row_layers.cuh) that no other kernel uses.
#pragma once

#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

// The thread's number, read anew wherever it stands: what is derived from it for one product is
// then not kept for the same product of the next layer, in registers that are needed meanwhile.
__device__ inline int this_thread() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// Keeps a number in a register that the compiler would load anew from constant memory.
__device__ inline int in_register(int number) {
  int kept;
  asm volatile("mov.u32 %0, %1;" : "=r"(kept) : "r"(number));
  return kept;
}

// At the barrier of this number, of so many threads; or only counts the thread.
__device__ inline void sync_threads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void leave_threads(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// --- Words of global memory that blocks tell each other -----------------------------------------
// Each of a store's and a load's words is written and read as one, and no order is kept between
// them. As aligned as all of them together.

__device__ inline void tell_words(void* to, uint32_t word) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}
__device__ inline void tell_words(void* to, uint2 words) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(words.x), "r"(words.y)
               : "memory");
}
__device__ inline void tell_words(void* to, uint64_t first, uint64_t second) {
  asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second)
               : "memory");
}
// What lies there now.
__device__ inline void ask_words(const void* from, uint32_t& word) {
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
}
__device__ inline void ask_words(const void* from, uint4& words) {
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "l"(from)
               : "memory");
}
__device__ inline void ask_words(const void* from, uint64_t& word) {
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
}
__device__ inline void ask_words(const void* from, uint64_t (&words)[2]) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words[0]), "=l"(words[1])
               : "l"(from)
               : "memory");
}

// --- Words of shared memory ---------------------------------------------------------------------
// Loaded where they are asked for: all at once would take more registers than there are.

__device__ inline void load_here(const void* from, uint32_t (&words)[2]) {
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(shared_address(from)));
}
__device__ inline void load_here(const void* from, uint32_t (&words)[1]) {
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(words[0]) : "r"(shared_address(from)));
}

}  // namespace narrow::ops::cuda
