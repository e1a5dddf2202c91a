// A ring of stages in shared memory that the copy engine fills with rows of x and of weights, and
// how a warpgroup that multiplies from it sees it: each has a place of its own. Few instructions
// lie between a stage that has landed and its products: with few rows a warpgroup waits for each of
// them (docs/performance/products.md). So what is kept are the lower halves of descriptors and
// addresses in shared memory, the same in all lanes, to which a stage adds a constant.
#pragma once

#include <cstddef>

#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

inline constexpr int kMostStages = 32;

// A place in a ring, of whoever fills it.
struct StagePlace {
  int stage = 0;
  uint32_t parity = 0;  // of the phase of its barrier that ends next
  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

struct TileBarriers {
  uint64_t weights[kMostStages];  // of a stage, have landed
  uint64_t x[kMostStages];
  uint64_t read[kMostStages];  // by all who multiply
};

// By all threads of the block, before any other use. readers: how many arrive at `read`.
__device__ inline void init_ring(TileBarriers& barriers, int stages, int readers) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) {
      init_barrier(&barriers.weights[s], 1);
      init_barrier(&barriers.x[s], 1);
      init_barrier(&barriers.read[s], static_cast<uint32_t>(readers));
    }
    publish_barriers();
  }
  __syncthreads();
}

class TileRing {
 public:
  // x_offset, weights_offset: of the warpgroup's rows of x and of the weights in a stage.
  __device__ TileRing(const uint8_t* memory, const TileBarriers& barriers, int stages,
                      int stage_bytes, int x_offset, int weights_offset)
      : x_(tile_descriptor_low(memory + x_offset)),
        weights_(tile_descriptor_low(memory + weights_offset)),
        barrier_(shared_address(&barriers)),
        stage_(static_cast<uint32_t>(stage_bytes) / 16),
        back_(stage_ - static_cast<uint32_t>(stages) * stage_),
        last_(barrier_ + static_cast<uint32_t>(stages - 1) * kBarrierBytes),
        barriers_back_(barrier_ - last_) {}

  // Of the stage at hand, as descriptor_from_low() takes them.
  __device__ uint32_t x() const { return x_; }
  __device__ uint32_t weights() const { return weights_; }

  __device__ void wait_for_tiles() const {
    wait_at(barrier_ + offsetof(TileBarriers, weights), parity_);
    wait_at(barrier_ + offsetof(TileBarriers, x), parity_);
  }
  // The shared address of the barrier at which to arrive when the stage at hand has been read.
  __device__ uint32_t read() const { return barrier_ + offsetof(TileBarriers, read); }

  // Without a branch: behind one, ptxas would not know that all lanes have the same descriptors.
  __device__ void advance() {
    const bool last = barrier_ == last_;
    x_ += last ? back_ : stage_;
    weights_ += last ? back_ : stage_;
    barrier_ += last ? barriers_back_ : kBarrierBytes;
    parity_ ^= last ? 1 : 0;
  }

 private:
  static constexpr uint32_t kBarrierBytes = sizeof(uint64_t);

  uint32_t x_, weights_;
  uint32_t barrier_;     // of the stage, the first of its kinds
  uint32_t parity_ = 0;  // of the phase that is waited for
  uint32_t stage_, back_, last_, barriers_back_;
};

}  // namespace narrow::ops::cuda
