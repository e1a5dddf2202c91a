// In place of src/ops/cuda/row_instructions.cuh on the host. Who asks for words lets other threads
// and blocks run first.
#pragma once

#include <cstring>

#include "emulation/block.h"
#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

inline int this_thread() { return threadIdx.x; }
inline int in_register(int number) { return number; }

inline void sync_threads(int barrier, int threads) { emulation::sync_named(barrier, threads); }
inline void leave_threads(int barrier, int threads) { emulation::leave_named(barrier, threads); }

template <class... Words>
void tell_words(void* to, const Words&... words) {
  auto* at = static_cast<std::byte*>(to);
  ((std::memcpy(at, &words, sizeof words), at += sizeof words), ...);
  emulation::tell();
}
template <class Words>
void ask_words(const void* from, Words& words) {
  emulation::ask_again();
  std::memcpy(&words, from, sizeof words);
}

template <int kWords>
void load_here(const void* from, uint32_t (&words)[kWords]) {
  emulation::read_shared(shared_address(from), words, sizeof words);
}

}  // namespace narrow::ops::cuda
