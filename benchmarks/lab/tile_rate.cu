// What a stage of a product costs, in cycles: of tiles of gemm.cuh that are there already, which
// is what the tensor cores and the reading of operands take, and of tiles that the copy engine
// brings from the second-level cache. Then how much a processor takes in, by who asks for the same
// bytes at the same time: blocks that follow each other run on processors that are neighbours. (No
// result to check: cuda_products does.)
//
//   tile_rate
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "device_timing.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/error.h"
#include "ops/cuda/gemm.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tile_ring.cuh"

namespace {

using namespace narrow::ops::cuda;

constexpr int kSteps = 480, kRingMemory = 204 << 10, kMemory = kRingMemory + 1024;
constexpr int kWindow = 128 << 10;  // bytes that a block reads again and again
constexpr int kWindows = 280;       // two for each processor

// By the thread that fills a ring: kSteps stages, each of so many bytes of two windows. Without
// copies a stage counts as landed at once.
__device__ void fill_stages(TileBarriers& barriers, int stages, uint8_t* ring, const uint8_t* x,
                            int x_bytes, const uint8_t* weights, int weight_bytes, bool copies) {
  StagePlace at{0, 1};
  int x_offset = 0, weights_offset = 0;
  const auto bring = [&](uint8_t* to, const uint8_t* window, int& offset, int bytes,
                         uint64_t* landed) {
    if (!copies) return arrive(landed);
    if (offset + bytes > kWindow) offset = 0;
    arrive_expecting(landed, static_cast<uint32_t>(bytes));
    copy_bytes(to, window + offset, static_cast<uint32_t>(bytes), landed);
    offset += bytes;
  };
  for (int step = 0; step < kSteps; ++step) {
    wait(&barriers.read[at.stage], at.parity);
    uint8_t* const to = ring + at.stage * (x_bytes + weight_bytes);
    bring(to, x, x_offset, x_bytes, &barriers.x[at.stage]);
    bring(to + x_bytes, weights, weights_offset, weight_bytes, &barriers.weights[at.stage]);
    at.advance(stages);
  }
}

// cycles: of each block. out: [threads], so that no sum is in vain.
template <MmaType type, int kConsumers, int kOut>
__global__ void __launch_bounds__(kThreads<kConsumers>, 1)
    multiply(const uint8_t* from, bool copies, int stages, float* out, uint64_t* cycles) {
  constexpr int kXBytes = 64 * kConsumers * kAtomBytes, kWeightBytes = kOut * kAtomBytes;
  auto* const memory = reinterpret_cast<uint8_t*>(block_memory());
  __shared__ TileBarriers barriers;
  uint8_t* const ring = memory + to_first_tile(memory);
  for (int i = threadIdx.x; i < stages * (kXBytes + kWeightBytes) / 16; i += blockDim.x)
    reinterpret_cast<uint4*>(ring)[i] = reinterpret_cast<const uint4*>(from)[i];
  publish_to_async();
  init_ring(barriers, stages, kConsumers);
  if (threadIdx.x >= kConsumers * kWarpgroup) {
    if constexpr (kTakesRegisters<kConsumers, kOut>) give_up_registers<40>();
    const uint8_t* const window = from + int64_t{2} * blockIdx.x * kWindow;
    if (threadIdx.x == kConsumers * kWarpgroup)
      fill_stages(barriers, stages, ring, window, kXBytes, window + kWindow, kWeightBytes, copies);
    return;
  }
  if constexpr (kTakesRegisters<kConsumers, kOut>) take_registers<232>();
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  TileRing at(ring, barriers, stages, kXBytes + kWeightBytes, warpgroup() * 64 * kAtomBytes,
              kXBytes);
  const long long begin = clock64();
  typename MmaTraits<type>::Sum sums[1][kOut / 2] = {};
  add_products<type, kOut, 1, 1>(at, kSteps, 0, speaks, sums);
  if (threadIdx.x == 0) cycles[blockIdx.x] = static_cast<uint64_t>(clock64() - begin);
  float sum = 0;
  for (const auto value : sums[0]) sum += static_cast<float>(value);
  out[threadIdx.x] = sum;
}

// The windows of a block's rows of x and of its weights.
struct Sharing {
  const char* name;
  int x, x_of, weights, weights_of;  // block / x % x_of
};
constexpr int kAll = 1 << 20;
constexpr Sharing kSharings[] = {{"nobody", 1, kAll, 1, kAll},
                                 {"the block 66 behind", 1, 66, 1, 66},
                                 {"the neighbour", 2, kAll, 2, kAll},
                                 {"the neighbour, of x alone", 2, kAll, 1, kAll},
                                 {"all, of x alone", 1, 1, 1, kAll},
                                 {"the neighbour of weights, every other of x", 1, 2, 2, kAll},
                                 {"every other of x, the block 66 behind of weights", 1, 2, 1, 66},
                                 {"all", 1, 1, 1, 1}};

__global__ void take_in(const uint8_t* from, Sharing sharing, int x_bytes, int weight_bytes,
                        int stages, uint64_t* cycles) {
  auto* const memory = reinterpret_cast<uint8_t*>(block_memory());
  __shared__ TileBarriers barriers;
  uint8_t* const ring = memory + to_first_tile(memory);
  init_ring(barriers, stages, 1);
  const int block = static_cast<int>(blockIdx.x);
  const auto window = [&](int of) { return from + static_cast<int64_t>(of) * kWindow; };
  const long long begin = clock64();
  if (threadIdx.x == 0)
    fill_stages(barriers, stages, ring, window(block / sharing.x % sharing.x_of), x_bytes,
                window(kWindows / 2 + block / sharing.weights % sharing.weights_of), weight_bytes,
                /*copies=*/true);
  if (threadIdx.x != kWarpSize) return;
  StagePlace at;
  for (int step = 0; step < kSteps; ++step) {
    wait(&barriers.x[at.stage], at.parity);
    wait(&barriers.weights[at.stage], at.parity);
    arrive(&barriers.read[at.stage]);
    at.advance(stages);
  }
  cycles[block] = static_cast<uint64_t>(clock64() - begin);
}

class Measurement {
 public:
  Measurement() : bytes_(size_t{kWindow} * kWindows), out_(4096), cycles_(processors() * 8) {
    if (2 * processors() > kWindows) throw std::runtime_error("more processors than foreseen");
    std::vector<uint8_t> random(size_t{kWindow} * kWindows);
    std::mt19937 engine(1);
    // No exponent of all ones: numbers of every type.
    for (uint8_t& byte : random) byte = static_cast<uint8_t>(engine() & 0xbf);
    check(cudaMemcpy(bytes_.as<void>(), random.data(), random.size(), cudaMemcpyDefault), "copy");
  }

  template <MmaType type, int kConsumers, int kOut>
  void tile(const char* name) {
    constexpr int kStage = (64 * kConsumers + kOut) * kAtomBytes;
    const auto kernel = multiply<type, kConsumers, kOut>;
    allow_shared_memory(kernel, kMemory);
    const auto of = [&](bool copies) {
      return cycles_of([&] {
        kernel<<<processors(), kThreads<kConsumers>, kMemory>>>(
            bytes_.as<uint8_t>(), copies, kRingMemory / kStage, out_.as<float>(),
            cycles_.as<uint64_t>());
      });
    };
    const double there = of(false), copied = of(true);
    printf("%s, %d by %d: tensor cores %d cycles, there %.0f, copied %.0f, %.1f bytes a cycle\n",
           name, 64 * kConsumers, kOut, 2 * kConsumers * kOut, there, copied, kStage / copied);
  }

  void intake(int rows, int outputs) {
    allow_shared_memory(take_in, kMemory);
    const int stage = (rows + outputs) * kAtomBytes;
    for (const Sharing& sharing : kSharings) {
      const double cycles = cycles_of([&] {
        take_in<<<processors(), 2 * kWarpSize, kMemory>>>(
            bytes_.as<uint8_t>(), sharing, rows * kAtomBytes, outputs * kAtomBytes,
            std::min(kMostStages, kRingMemory / stage), cycles_.as<uint64_t>());
      });
      printf("%d by %d, shared by %s: %.1f bytes a cycle\n", rows, outputs, sharing.name,
             stage / cycles);
    }
  }

 private:
  // Of a stage, the mean of all blocks of the fifth launch.
  template <class Launch>
  double cycles_of(Launch launch) {
    for (int i = 0; i < 5; ++i) launch();
    check(cudaDeviceSynchronize(), "a kernel");
    std::vector<uint64_t> cycles(static_cast<size_t>(processors()));
    check(cudaMemcpy(cycles.data(), cycles_.as<void>(), cycles.size() * 8, cudaMemcpyDefault),
          "copy");
    return std::accumulate(cycles.begin(), cycles.end(), 0.0) / processors() / kSteps;
  }

  DeviceMemory bytes_, out_, cycles_;
};

}  // namespace

int main() try {
  using enum MmaType;
  Measurement measure;
  measure.tile<int8, 2, 64>("int8");
  measure.tile<int8, 1, 128>("int8");
  measure.tile<int8, 2, 128>("int8");
  measure.tile<int8, 2, 224>("int8");
  measure.tile<int8, 2, 256>("int8");
  measure.tile<bf16, 2, 64>("bf16");
  measure.tile<bf16, 2, 256>("bf16");
  measure.tile<e4m3, 2, 64>("e4m3");
  measure.tile<e4m3, 2, 256>("e4m3");
  measure.intake(128, 64);
  measure.intake(128, 224);
} catch (const std::exception& error) {
  fprintf(stderr, "tile_rate: %s\n", error.what());
  return 1;
}
