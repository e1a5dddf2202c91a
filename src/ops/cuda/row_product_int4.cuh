// The product of 4-bit weights in the kernel of whole layers.
//
// A warp sums one of the parts of a tile's inputs, with mma, of which x is one column (what the
// seven others are is nobody's business). A stage of the ring has several parts, and a group of as
// many warps reads it. A round is kInt4Tiles tiles, as many stages side by side as there are
// groups.
//
// What a step of one row takes in this format is instructions, not bytes: hardly a warp ever waits
// for a stage. So what is done once in a stage is as little as can be: nothing in it divides, and
// what does not change is in registers.
#pragma once

#include "ops/cuda/int4.cuh"
#include "ops/cuda/row_products.cuh"
#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// find, finish, activate and store are those of multiply(). Called by all consumers.
template <class Format>
class Int4Product {
 public:
  // at: the place of the product's first stage.
  __device__ Int4Product(const RowLayers& work, int product, RowShared& shared, const uint8_t* ring,
                         const uint8_t* x, RingPlace at)
      : work_(work),
        product_(product),
        shared_(shared),
        ring_(ring),
        here_(at),
        warp_(static_cast<unsigned>(this_thread()) / kWarpSize),
        lane_(in_register(this_thread() % kWarpSize)),
        mine_(shared.tiles[product]),
        rounds_(in_register((mine_ + kInt4Tiles - 1) / kInt4Tiles)),
        chunks_(in_register(work.product[product].in / kInt4Inputs / kInt4Parts)),
        of_stage_(in_register(int4_chunks_of_stage(work.product[product]))),
        sections_(in_register(1 << work.product[product].halved)),
        stages_(*const_cast<const volatile int*>(&shared.stages)) {
    const unsigned part = warp_ % kInt4Parts, group = warp_ * sections_ / kInt4Parts;
    const unsigned first_chunk = part * of_stage_ % kInt4StageChunks;  // the warp's, in a stage
    words_ = in_register(first_chunk * kChunkBytes + 16 * lane_);
    scales_ = in_register(kRowStageBytes + first_chunk * kScaleBytes + lane_ / 4 * 4);
    inputs_ = x + part * chunks_ * kInt4ChunkBytes + 16 * (lane_ % 4);
    sums_ = in_register(warp_ * kTileOutputs + lane_ / 4);
    here_.next(group, stages_);
    // A round has kInt4Tiles * sections_ stages; of the last one only the first groups have one.
    static_assert(kInt4Tiles == 2);
    const int shift = 1 + work.product[product].halved;
    takes_part_ =
        in_register((mine_ * sections_ + (1 << shift) - 1 - static_cast<int>(group)) >> shift);
  }

  template <class Find, class Finish, class Activate, class Store>
  __device__ void multiply(Find find, Finish finish, Activate activate, Store store) {
    ColumnVectors vectors{};
    // A warp adds up the parts of a round while the others go on: a round later, when all have left
    // it, or the next product waits for it. The last warps begin, which have no stage of a last
    // round that is not whole.
    int column = 0, adds_up = kRowConsumers / kWarpSize - 1 - static_cast<int>(warp_);
#pragma unroll 1
    for (int round = 0, place = 0; round <= rounds_; ++round) {
      if (round < rounds_) {
        if (round == adds_up) {
          column = column_of(round);
          vectors = find(column);
        }
        if (round < takes_part_)
          add_products(min(kInt4Tiles, mine_ - round * kInt4Tiles) * sections_, place);
        if (round != adds_up) leave_round(place);
      }
      if (round == adds_up + 1) {
        add_up(adds_up, (place == 0 ? kInt4Rounds : place) - 1, column, vectors, finish, activate,
               store);
        adds_up += kRowConsumers / kWarpSize;
      }
      place = place + 1 == kInt4Rounds ? 0 : place + 1;
    }
  }

  // Of the ring, that the block's tiles take.
  __device__ int stages() const { return mine_ * sections_ * work_.product[product_].steps; }

 private:
  static constexpr int kSteps = kInt4Inputs / 16;
  static constexpr int kChunkBytes = kInt4WordBytes / 4;          // of sixteen outputs
  static constexpr int kScaleBytes = Format::kOffsets ? 64 : 32;  // of these
  static constexpr int kTileOutputs = 16;

  // Lanes have the sixteen outputs of one tile of a round and of the other.
  __device__ int column_of(int round) const {
    const int i = min(round * kInt4Tiles + static_cast<int>(lane_ / 16), mine_ - 1);
    return rows_of_tile<Format>(work_, product_, i).first + static_cast<int>(lane_ % 16);
  }

  // The warp's part of a tile. beside: stages of the round; place: of its sums.
  __device__ void add_products(int beside, int place) {
    float sums[4] = {};
    int chunk = 0;
#pragma unroll 1
    do {
      wait(&shared_.full[here_.slot], here_.parity);
      const int slot = here_.slot;
      add_stage(sums, slot, chunk, min(of_stage_, chunks_ - chunk));
      __syncwarp();
      if (static_cast<int>(lane_) < sections_) arrive(&shared_.empty[slot]);
      here_.next(beside, stages_);
      chunk += of_stage_;
    } while (chunk < chunks_);
    float* const to = &shared_.parts[place][0][0][0] + sums_;
    if (lane_ % 4 == 0) to[0] = sums[0], to[8] = sums[2];
  }

  // `count` chunks of the part, from its chunk `first` on.
  __device__ void add_stage(float (&sums)[4], int slot, int first, int count) const {
    const uint8_t* const stage = ring_ + slot * Format::kStage;
    const auto* words = reinterpret_cast<const uint4*>(stage + words_);
    const auto* scales = reinterpret_cast<const uint32_t*>(stage + scales_);
    const uint8_t* inputs = inputs_ + first * kInt4ChunkBytes;
    const uint8_t* const end = inputs + count * kInt4ChunkBytes;
#pragma unroll 1
    do {
      const uint4 low = words[0], high = words[kWarpSize];
      const Int4Group<Format::kOffsets> weights(scales[0], Format::kOffsets ? scales[8] : 0);
      const uint32_t word[kSteps] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int s = 0; s < kSteps; s += 2) {
        const uint4 b = *reinterpret_cast<const uint4*>(inputs + int4_place(s / 2));
        uint32_t a[2][4];
        weights.weights(word[s], a[0]);
        weights.weights(word[s + 1], a[1]);
        mma_bf16(sums, a[0][0], a[0][1], a[0][2], a[0][3], b.x, b.y);
        mma_bf16(sums, a[1][0], a[1][1], a[1][2], a[1][3], b.z, b.w);
      }
      words += 2 * kWarpSize, scales += kScaleBytes / 4, inputs += kInt4ChunkBytes;
    } while (inputs != end);
  }

  // The sums of a round's outputs, one a lane.
  template <class Finish, class Activate, class Store>
  __device__ void add_up(int round, int place, int column, const ColumnVectors& vectors,
                         Finish finish, Activate activate, Store store) const {
    wait_for_round(place);
    float total = 0;
#pragma unroll
    for (int p = 0; p < kInt4Parts; ++p) total += shared_.parts[place][lane_ / 16][p][lane_ % 16];
    float value = finish(vectors, total);
    if (product_ == kGateUp) value = activate(value, __shfl_down_sync(0xffffffffu, value, 16));
    const float next = __shfl_down_sync(0xffffffffu, value, 1);
    const bool is_there = round * kInt4Tiles + static_cast<int>(lane_ / 16) < mine_;
    if (lane_ % 2 == 0 && (product_ == kGateUp ? lane_ < 16 : is_there)) store(column, value, next);
  }

  const RowLayers& work_;
  const int product_;
  RowShared& shared_;
  const uint8_t* const ring_;
  RingPlace here_;
  const unsigned warp_, lane_;
  const int mine_;         // tiles
  const int rounds_;       // of them
  const int chunks_;       // of a part
  const int of_stage_;     // of these
  const int sections_;     // of a tile
  const int stages_;       // of the ring
  int words_, scales_;     // where the lane's are in a stage
  int sums_;               // and among the sums of a round
  const uint8_t* inputs_;  // of the warp's part
  int takes_part_;         // in the rounds below
};

}  // namespace narrow::ops::cuda
