// A ring of stages in shared memory that the copy engine fills, seen by a warpgroup that multiplies
// from it: each has a place of its own.
#pragma once

#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

struct TileRing {
  const uint8_t* memory;
  uint64_t *full, *empty;  // barriers of the stages
  int stages, stage_bytes;
  int stage = 0;
  uint32_t parity = 0;  // of the phase of `full` that is waited for

  __device__ const uint8_t* tiles() const { return memory + stage * stage_bytes; }
  __device__ void wait_for_tiles() const { wait(&full[stage], parity); }
  __device__ void advance() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace narrow::ops::cuda
