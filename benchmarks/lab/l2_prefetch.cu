// Whether a processor that has prefetched bytes into the second-level cache gets them faster, alone
// and while all do the same: a stream of weights could then run on while the ring in shared memory
// is full (docs/performance/one_row.md). Every block prefetches its own stages of 16 KiB in one
// way, waits until all must have arrived and times copying them to shared memory.
//
//   l2_prefetch
#include <array>
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.h"

namespace {

using namespace narrow::ops::cuda;

constexpr int kRowBytes = 8192, kStageRows = 16, kSegment = 1024, kGroup = 8 * kSegment;
constexpr int kStageBytes = 2 * kGroup, kStagesAcross = kRowBytes / kSegment, kUnderWay = 4;
constexpr int kMostStages = 16, kBlockRows = kMostStages / kStagesAcross * kStageRows;
constexpr int64_t kBytes = int64_t{8} << 30;
constexpr uint64_t kPause = 60000;  // ns

enum Way { kNone, kTensor, kBulk, kLine, kLineToStay, kSector, kCopied, kWays };
constexpr std::array<const char*, kWays> kNames = {"not at all",
                                                   "cp.async.bulk.prefetch.tensor",
                                                   "cp.async.bulk.prefetch.L2",
                                                   "prefetch.global.L2 of every line",
                                                   "prefetch.global.L2::evict_last of every line",
                                                   "ld.global of a word of every sector",
                                                   "copied to shared memory"};

__device__ uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__device__ void prefetch_tile(const CUtensorMap& map, int row, int atom) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&map),
               "r"(0), "r"(row), "r"(atom)
               : "memory");
}

__device__ void copy_stage(uint8_t* to, const CUtensorMap& map, int row, int atom,
                           uint64_t* landed) {
  copy_tile(to, &map, 0, row, atom, landed);
  copy_tile(to + kGroup, &map, 0, row + 8, atom, landed);
}

// A block of one warp. elapsed: of each block, in nanoseconds.
__global__ void prefetch_and_copy(const __grid_constant__ CUtensorMap map, const uint8_t* bytes,
                                  Way way, int stages, int first_row, uint64_t* elapsed) {
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t landed;
  uint8_t* ring = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const int lane = static_cast<int>(threadIdx.x);
  if (lane == 0) {
    init_barrier(&landed, 1);
    publish_barriers();
  }
  __syncwarp();
  const uint64_t begin = nanoseconds();
  uint32_t parity = 0;
  for (int s = 0; s < stages; ++s) {
    const int row =
        first_row + static_cast<int>(blockIdx.x) * kBlockRows + s / kStagesAcross * kStageRows;
    const int column = s % kStagesAcross * kSegment, atom = column / kAtomBytes;
    const auto address = [&](int byte) {
      return bytes + static_cast<int64_t>(row + byte / kSegment) * kRowBytes + column +
             byte % kSegment;
    };
    if (way == kLine)
      for (int b = lane * 128; b < kStageBytes; b += 32 * 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(address(b)));
    if (way == kLineToStay)
      for (int b = lane * 128; b < kStageBytes; b += 32 * 128)
        asm volatile("prefetch.global.L2::evict_last [%0];" ::"l"(address(b)));
    if (way == kSector)
      for (int b = lane * 32; b < kStageBytes; b += 32 * 32) {
        [[maybe_unused]] uint32_t word;
        asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(word) : "l"(address(b)));
      }
    if (lane != 0) continue;
    if (way == kTensor) {
      prefetch_tile(map, row, atom);
      prefetch_tile(map, row + 8, atom);
    }
    if (way == kBulk)
      for (int r = 0; r < kStageRows; ++r) prefetch_bytes(address(r * kSegment), kSegment);
    if (way == kCopied) {
      arrive_expecting(&landed, kStageBytes);
      copy_stage(ring, map, row, atom, &landed);
      wait(&landed, parity);
      parity ^= 1;
    }
  }
  __syncwarp();
  if (lane != 0) return;
  while (nanoseconds() < begin + kPause) {
  }
  const uint64_t start = nanoseconds();
  for (int first = 0; first < stages; first += kUnderWay) {
    arrive_expecting(&landed, kUnderWay * kStageBytes);
    for (int s = first; s < first + kUnderWay; ++s)
      copy_stage(
          ring + (s - first) * kStageBytes, map,
          first_row + static_cast<int>(blockIdx.x) * kBlockRows + s / kStagesAcross * kStageRows,
          s % kStagesAcross * kSegment / kAtomBytes, &landed);
    wait(&landed, parity);
    parity ^= 1;
  }
  elapsed[blockIdx.x] = nanoseconds() - start;
}

}  // namespace

int main() try {
  const DeviceMemory bytes(kBytes), elapsed(static_cast<size_t>(processors()) * sizeof(uint64_t));
  check(cudaMemset(bytes.as<uint8_t>(), 1, kBytes), "filling memory");
  const CUtensorMap map = atoms_map(bytes.as<uint8_t>(), TensorMapType::byte, kRowBytes,
                                    kBytes / kRowBytes, kRowBytes, 8, kSegment / kAtomBytes);
  constexpr size_t kShared = kUnderWay * kStageBytes + 1024;
  check(cudaFuncSetAttribute(prefetch_and_copy, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kShared)),
        "shared memory");
  int row = 0;
  for (const int blocks : {1, processors()})
    for (int stages = kUnderWay; stages <= kMostStages; stages += kUnderWay)
      for (int way = 0; way < kWays; ++way) {
        constexpr int kRuns = 4;
        double sum = 0;
        for (int run = -1; run < kRuns; ++run) {
          // Every run has bytes that no cache has seen.
          row = row + 2 * blocks * kBlockRows > kBytes / kRowBytes ? 0 : row + blocks * kBlockRows;
          prefetch_and_copy<<<static_cast<unsigned>(blocks), 32, kShared>>>(
              map, bytes.as<uint8_t>(), static_cast<Way>(way), stages, row, elapsed.as<uint64_t>());
          std::vector<uint64_t> of_blocks(static_cast<size_t>(blocks));
          check(cudaMemcpy(of_blocks.data(), elapsed.as<uint64_t>(), of_blocks.size() * 8,
                           cudaMemcpyDeviceToHost),
                "a kernel");
          if (run < 0) continue;
          for (const uint64_t one : of_blocks) sum += static_cast<double>(one);
        }
        const double mean = sum / kRuns / blocks;
        std::printf("%3d processors, %3d KiB each, prefetched %-46s %5.1f us, %5.1f GB/s each\n",
                    blocks, stages * kStageBytes >> 10, kNames[static_cast<size_t>(way)],
                    mean / 1000, stages * kStageBytes / mean);
      }
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "l2_prefetch: %s\n", error.what());
  return 1;
}
