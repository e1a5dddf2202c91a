#include "ops/cpu/kernels.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace narrow::ops::cpu {
namespace {

// Tiles for bf16 and int8, and the kernel's leave to use them: their state is large, so Linux wants
// to be asked once per process (arch_prctl, ARCH_REQ_XCOMP_PERM; XTILEDATA is component 18).
bool may_use_tiles() {
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & (kBf16 | kTiles | kInt8)) != (kBf16 | kTiles | kInt8)) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

}  // namespace

Implementations usable_kernels() {
  __builtin_cpu_init();
  Implementations result{};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni && may_use_tiles()) result.kernels[result.count++] = amx_kernels();
  if (vnni && __builtin_cpu_supports("avx512bf16"))
    result.kernels[result.count++] = avx512_bf16_kernels();
  if (vnni) result.kernels[result.count++] = avx512_vnni_kernels();
  if (avx512) result.kernels[result.count++] = avx512_kernels();
  if (avx2) result.kernels[result.count++] = avx2_kernels();
  return result;
}

}  // namespace narrow::ops::cpu
