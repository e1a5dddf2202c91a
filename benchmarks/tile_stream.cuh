// A stream of a matrix of weights into the shared memory of all processors, as products ask for it.
#pragma once

#include <cuda.h>

#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

inline constexpr int64_t kRowBytes = 14336, kBytes = int64_t{4} << 30;
inline constexpr int kMostStages = 32, kRingOfOne = 160 << 10, kRingOfTwo = 96 << 10;

struct Stream {
  const uint8_t* bytes;
  int rows, atoms, stages;  // of a stage: rows, and atoms of 128 bytes of each
  int tiles, steps;         // stages of a tile
  bool plain;
};

// One warp: its first lane starts copies and waits for them.
__global__ void stream_tiles(const __grid_constant__ CUtensorMap map, Stream work) {
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kMostStages];
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
inline CUtensorMap map_of(const void* data, int rows, int atoms, CUtensorMapL2promotion promotion) {
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

// Bytes a second. A stage is a box of `rows` rows of `atoms` atoms with that promotion to the
// second-level cache, or, if `plain`, as many bytes that lie together. `bytes`: kBytes of them.
inline double stream_rate(const uint8_t* bytes, int rows, int atoms, int blocks_of_processor,
                          CUtensorMapL2promotion promotion, bool plain) {
  const int ring = blocks_of_processor == 1 ? kRingOfOne : kRingOfTwo;
  int processors = 0;
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "processors");
  check(cudaFuncSetAttribute(stream_tiles, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kRingOfOne + 1024),
        "shared memory");
  const int blocks = processors * blocks_of_processor;
  Stream work{bytes, rows, atoms, ring / (rows * atoms * kAtomBytes)};
  work.tiles = static_cast<int>(kBytes / kRowBytes / rows) / blocks * blocks;
  work.steps = static_cast<int>(kRowBytes / kAtomBytes) / atoms;
  work.plain = plain;
  const double moved = double(work.tiles) * work.steps * rows * atoms * kAtomBytes;
  const CUtensorMap map = map_of(bytes, rows, atoms, promotion);
  const double microseconds =
      time_of([&](int) { stream_tiles<<<blocks, 32, ring + 1024>>>(map, work); }, 5, nullptr);
  return moved / microseconds * 1e6;
}

}  // namespace narrow::ops::cuda
