#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {

Implementations usable_kernels() {
  __builtin_cpu_init();
  Implementations result{};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512vnni"))
    result.kernels[result.count++] = avx512_vnni_kernels();
  if (avx512) result.kernels[result.count++] = avx512_kernels();
  if (avx2) result.kernels[result.count++] = avx2_kernels();
  return result;
}

}  // namespace narrow::ops::cpu
