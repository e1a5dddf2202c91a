// y = x Wᵀ in int8 for more than 64 rows and up to 128 of many inputs. Tiles of all rows by 64
// outputs would leave half of the processors idle, and narrower ones bring more of x to each. So
// two blocks of a cluster share a tile: each multiplies half of the inputs, and they exchange their
// sums of the other's outputs by way of distributed shared memory. Sums of whole numbers are the
// same in any order, so the bits are those of gemm.cuh.
#include "ops/cuda/gemm.cuh"

namespace narrow::ops::cuda {
namespace {

constexpr int kSharers = 2, kConsumers = 2, kTokens = 64 * kConsumers;
constexpr int kOut = 64, kOwn = kOut / kSharers;  // of a tile, and of a block in the end

__global__ void __launch_bounds__(kThreads<kConsumers>, 1)
    split_int8_kernel(const __grid_constant__ CUtensorMap weight_map,
                      const __grid_constant__ CUtensorMap x_map,
                      const __grid_constant__ CUtensorMap y_map, GemmWork work) {
  NARROW_BLOCK_BYTES(memory);
  __shared__ TileBarriers barriers;
  __shared__ __align__(16) float2 columns[kConsumers][kOwn];
  uint8_t* const ring = memory + to_first_tile(memory);
  const int stage_bytes = work.x_bytes + kOut * kAtomBytes;
  init_ring(barriers, work.stages, kConsumers);

  if (threadIdx.x >= kConsumers * kWarpgroup) {
    const int loader = static_cast<int>(threadIdx.x) - kConsumers * kWarpgroup;
    if (loader == 0)
      load_weights<kAtomBytes, 1, kOut, false, true, kSharers>(weight_map, work, stage_bytes,
                                                               barriers, ring + work.x_bytes);
    if (loader == kWarpSize)
      load_x<kAtomBytes, 1, true, kSharers>(x_map, x_map, work, stage_bytes, barriers, ring);
    __syncwarp();
    cluster_sync();
    cluster_sync();
    return;
  }

  wait_for_previous_kernel();
  let_next_kernel_start();
  const int consumer = warpgroup(), rank = static_cast<int>(blockIdx.x) % kSharers;
  const int row0 = 64 * consumer;
  const int column0 = static_cast<int>(blockIdx.x) / kSharers * kOut + rank * kOwn;
  const TileTerms<MmaType::int8, kOwn, false> terms(work.to, columns[consumer], row0, column0);
  if (work.prefetches_y) prefetch_staged<kOwn>(y_map, row0 + row_of_warp(), column0);
  TileRing at(ring, barriers, work.stages, stage_bytes, row0 * kAtomBytes, work.x_bytes);
  const StepShare share = share_of<kSharers>(work);
  int sums[1][kOut / 2];
  add_products<MmaType::int8, kOut, 1, 1>(at, share.end - share.begin,
                                          static_cast<uint32_t>(work.x_bytes) / 16,
                                          threadIdx.x % kWarpgroup == 0, sums);
  cluster_sync();  // both are done with what lies in their rings
  constexpr int kFours = kOwn / 2 / 4, kGroups = kConsumers * kWarpgroup;
  auto* const exchange = reinterpret_cast<int4*>(ring) + threadIdx.x;  // [four sums][thread]
  int own[kOwn / 2];
#pragma unroll
  for (int four = 0; four < kFours; ++four) {
    int other[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int first = sums[0][4 * four + i], second = sums[0][kOwn / 2 + 4 * four + i];
      own[4 * four + i] = rank == 0 ? first : second;
      other[i] = rank == 0 ? second : first;
    }
    store_in_cluster(address_in(exchange + four * kGroups, 1 - rank),
                     make_int4(other[0], other[1], other[2], other[3]));
  }
  cluster_sync();
#pragma unroll
  for (int four = 0; four < kFours; ++four) {
    const int4 other = exchange[four * kGroups];
    own[4 * four] += other.x, own[4 * four + 1] += other.y;
    own[4 * four + 2] += other.z, own[4 * four + 3] += other.w;
  }
  const uint8_t* const staging = staging_behind(ring, work.stages * stage_bytes);
  store_tile(work.to, own, terms, true, row0, column0, [&](auto value) {
    store_staged<kOwn>(y_map, work.to.y.adds, true, staging, row0 + row_of_warp(), column0, value);
  });
  finish_staged();
}

}  // namespace

bool split_int8(const Gemm& gemm, cudaStream_t stream) {
  constexpr int64_t kManyInputs = 8192, kFewRows = 64;
  if (gemm.gated || gemm.rows <= kFewRows || gemm.rows > kTokens || gemm.in < kManyInputs ||
      kSharers * div_up(gemm.out, kOut) > processors())
    return false;
  constexpr int kMemory = (kRingBytes<kConsumers>)+kStagingBytes<kConsumers> + 1024;
  static const bool allowed = [] {
    allow_shared_memory(split_int8_kernel, kMemory);
    return true;
  }();
  (void)allowed;
  GemmWork work = describe_gemm<MmaType::int8>(gemm, kTokens, kOut, 1);
  work.stages = std::min(kMostStages, kRingBytes<kConsumers> / (work.x_bytes + kOut * kAtomBytes));
  work.under_way = work.stages;
  launch_clusters(
      kSharers, split_int8_kernel, static_cast<unsigned>(kSharers * work.tiles),
      kThreads<kConsumers>, kMemory, stream,
      atoms_map(gemm.weight, TensorMapType::byte, gemm.in, gemm.w_rows, gemm.w_stride, kOut, 1),
      map_of_x<MmaType::int8>(gemm, work.x_bytes, 1), map_of_y<kOwn>(gemm), work);
  return true;
}

}  // namespace narrow::ops::cuda
