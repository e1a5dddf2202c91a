// The sums of 4-bit products of many rows (gemm_int4.cu). Each of the eight parts of the inputs
// (int4.cuh) ends with a sum that is added to those before it; a warpgroup that waited for it would
// leave the tensor cores idle, 400 cycles of every 4500 at 4096 inputs. So a tile's rows of x are
// two halves: one is added while the tensor cores have the other, and they go on into the next
// part, or the next tile, at once.
#pragma once

#include "ops/cuda/int4_tiles.cuh"

namespace narrow::ops::cuda {

// Which chunks of a tile's inputs end a part.
class Int4PartEnds {
 public:
  __host__ __device__ constexpr explicit Int4PartEnds(int chunks)
      : chunks_(chunks), multiple_(chunks) {}
  // Of the next chunk. c of C ends one where a multiple of C lies in [8 (c + 1), 8 (c + 2)); where
  // chunks are fewer than parts every one does: what is added for empty parts is zero.
  __host__ __device__ constexpr bool next() {
    const bool ends = chunks_ < kInt4Parts || multiple_ < behind_ + kInt4Parts;
    multiple_ += ends ? chunks_ : 0;
    behind_ += kInt4Parts;
    return ends;
  }

 private:
  int chunks_;
  int multiple_;             // the least that is not yet behind
  int behind_ = kInt4Parts;  // eight times the chunks up to the next one
};

static_assert([] {
  for (int chunks = 1; chunks < 130; ++chunks) {
    Int4PartEnds ends(chunks);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      bool is_last = false;
      for (int part = 1; part <= kInt4Parts; ++part)
        is_last |= first_int4_chunk(part, chunks) == chunk + 1;
      if (ends.next() != is_last) return false;
    }
  }
  return true;
}());

// A warpgroup's sums of its block's tiles, one tile after the other, as threads hold them
// (add_int4_part()).
template <class S, Int4Kind kKind>
class Int4Sums {
 public:
  // beside: of kSideBySide.
  __device__ Int4Sums(const Int4Work& work, const Int4Ring& ring, int beside)
      : work_(work), ring_(ring), beside_(beside) {
    take_chunk();
    chunk_.make(work_, 0, weights_[0]);
    start(0, 0, 0);
    start(0, 1, 0);
  }

  // Of the next tile. last: the block has none behind it.
  __device__ void add_tile(bool last, float (&totals)[S::kTokens / 2]) {
#pragma unroll
    for (float& total : totals) total = 0;
    Int4PartEnds ends(work_.chunks);
    for (int left = work_.chunks; left > 0; --left) {
      const bool part_ends = ends.next();
      chunk_.make(work_, 1, weights_[1]);
      start(1, 0, 1);
      start(1, 1, 1);
      const int read = at_.stage;
      StagePlace next = at_;
      next.advance(work_.stages);
      // Behind the last chunk of all, its first batch is multiplied again, for nothing: a branch
      // around that would be one more place where ptxas does not know what is under way.
      if (!last || left > 1) at_ = next;
      take_chunk();
      wgmma_wait<2>();  // all but the second batch
      chunk_.make(work_, 0, weights_[0]);
      wgmma_wait<1>();
      if (part_ends) add(0, totals);
      start(0, 0, !part_ends);
      wgmma_wait<1>();
      if (threadIdx.x % kWarpSize == 0) arrive(&ring_.empty[read]);
      if (part_ends) add(1, totals);
      start(0, 1, !part_ends);
    }
  }

  // Behind the last tile.
  __device__ void finish() { wgmma_wait<0>(); }

 private:
  using Chunk = Int4Chunk<S, kKind>;
  static constexpr int kHalf = S::kTokens / 2;
  static_assert(Chunk::kBatches == 2);

  __device__ void take_chunk() {
    wait(&ring_.full[at_.stage], at_.parity);
    chunk_ = Chunk(work_, ring_, at_.stage, beside_);
  }
  // Products of a batch and half of the rows, a group of their own.
  __device__ void start(int batch, int half, int keep_sums) {
    wgmma_fence();
    chunk_.template multiply<kHalf>(batch, weights_[batch], half * kHalf, keep_sums, sums_[half]);
    wgmma_commit();
  }
  __device__ void add(int half, float (&totals)[S::kTokens / 2]) {
#pragma unroll
    for (int i = 0; i < kHalf / 2; ++i) {
      keep(sums_[half][i]);
      totals[half * (kHalf / 2) + i] += sums_[half][i];
    }
  }

  const Int4Work& work_;
  const Int4Ring& ring_;
  const int beside_;
  StagePlace at_;  // of chunk_
  Chunk chunk_;    // whose first batch is under way
  uint32_t weights_[2][S::kBatch][4];
  float sums_[2][kHalf / 2];
};

}  // namespace narrow::ops::cuda
