#include "tile_stream.h"

#include <cuda.h>

#include <cstdint>
#include <random>
#include <vector>

#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/hopper.cuh"

namespace narrow::benchmarks {
namespace {

using namespace ops::cuda;

constexpr int64_t kRowBytes = 14336, kBytes = int64_t{4} << 30;
constexpr int kMostCopies = 32, kRingOfOne = 160 << 10, kRingOfTwo = 96 << 10;

struct Stream {
  const uint8_t* bytes;
  int rows, atoms, stages;  // of a stage: rows, and atoms of 128 bytes of each
  int tiles, steps;         // stages of a tile
  bool plain;
};

// One warp: its first lane starts copies and waits for them.
__global__ void stream_tiles(const __grid_constant__ CUtensorMap map, Stream work) {
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kMostCopies];
  uint8_t* ring = memory + (1024 - shared_address(memory) % 1024) % 1024;
  if (threadIdx.x != 0) return;
  for (int s = 0; s < work.stages; ++s) init_barrier(&full[s], 1);
  publish_barriers();
  const int stage_bytes = work.rows * work.atoms * kAtomBytes;
  int started = 0;
  const auto wait_for = [&](int copy) { wait(&full[copy % work.stages], copy / work.stages % 2); };
  for (int tile = blockIdx.x; tile < work.tiles; tile += gridDim.x)
    for (int step = 0; step < work.steps; ++step, ++started) {
      if (started >= work.stages) wait_for(started - work.stages);
      uint64_t* landed = &full[started % work.stages];
      uint8_t* to = ring + started % work.stages * stage_bytes;
      arrive_expecting(landed, static_cast<uint32_t>(stage_bytes));
      if (work.plain) {
        copy_bytes(to, work.bytes + (int64_t{tile} * work.steps + step) * stage_bytes,
                   static_cast<uint32_t>(stage_bytes), landed);
      } else {
        copy_tile(to, &map, 0, tile * work.rows, step * work.atoms, landed);
      }
    }
  for (int copy = max(0, started - work.stages); copy < started; ++copy) wait_for(copy);
}

// As atoms_map() (tensor_map.h), which does not leave the promotion to its caller.
CUtensorMap map_of(const void* data, int rows, int atoms, CUtensorMapL2promotion promotion) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found),
        "looking for cuTensorMapEncodeTiled");
  const cuuint64_t sizes[] = {kAtomBytes, kBytes / kRowBytes, kRowBytes / kAtomBytes};
  const cuuint64_t strides[] = {kRowBytes, kAtomBytes};
  const cuuint32_t box[] = {kAtomBytes, static_cast<cuuint32_t>(rows),
                            static_cast<cuuint32_t>(atoms)};
  const cuuint32_t steps[] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      &map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 3, const_cast<void*>(data), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, promotion,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw Error::failed("cuTensorMapEncodeTiled");
  return map;
}

CUtensorMapL2promotion promotion_to(int bytes) {
  switch (bytes) {
    case 64:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_64B;
    case 128:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
    case 256:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
    default:
      return CU_TENSOR_MAP_L2_PROMOTION_NONE;
  }
}

// Random bytes, since zeros would take less energy.
void fill(uint8_t* to) {
  std::mt19937 random(29);
  std::vector<uint32_t> some(int64_t{4} << 20);
  for (uint32_t& word : some) word = static_cast<uint32_t>(random());
  const auto bytes = static_cast<int64_t>(some.size() * sizeof(uint32_t));
  static_assert(kBytes % ((int64_t{4} << 20) * sizeof(uint32_t)) == 0);
  for (int64_t done = 0; done < kBytes; done += bytes)
    check(cudaMemcpy(to + done, some.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
          "copy");
}

}  // namespace

double stream_rate(const StreamWay& way) {
  const DeviceMemory bytes(kBytes);
  fill(bytes.as<uint8_t>());
  check(cudaFuncSetAttribute(stream_tiles, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kRingOfOne + 1024),
        "shared memory");
  const int ring = way.blocks_of_processor == 1 ? kRingOfOne : kRingOfTwo;
  const int blocks = processors() * way.blocks_of_processor;
  const int stage = way.rows * way.atoms * kAtomBytes;
  Stream work{bytes.as<uint8_t>(), way.rows, way.atoms, ring / stage};
  work.tiles = static_cast<int>(kBytes / kRowBytes / way.rows) / blocks * blocks;
  work.steps = static_cast<int>(kRowBytes / kAtomBytes) / way.atoms;
  work.plain = way.plain;
  const CUtensorMap map =
      map_of(bytes.as<void>(), way.rows, way.atoms, promotion_to(way.promotion));
  const double microseconds =
      time_of([&](int) { stream_tiles<<<blocks, 32, ring + 1024>>>(map, work); }, 5, nullptr);
  return double(work.tiles) * work.steps * stage / microseconds * 1e6;
}

std::optional<double> memory_rate() {
  if (compute_capability() != 90) return {};
  return stream_rate({});
}

}  // namespace narrow::benchmarks
