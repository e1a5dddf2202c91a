#include "quantize/blas.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "base/log.h"

namespace narrow::quantize {
namespace {

constexpr const char* kLibrary = "libopenblas.so.0";

// The routines of a library that threads must not call side by side, one call at a time.
Blas unguarded;
std::mutex one_call;

template <auto member, class Routine>
struct Alone;
template <auto member, class... Args>
struct Alone<member, void (*)(Args...)> {
  static void call(Args... args) {
    const std::lock_guard lock(one_call);
    (unguarded.*member)(args...);
  }
};
constexpr auto sgemm_alone = Alone<&Blas::sgemm, decltype(Blas::sgemm)>::call;
constexpr auto dgemm_alone = Alone<&Blas::dgemm, decltype(Blas::dgemm)>::call;
constexpr auto dtrsm_alone = Alone<&Blas::dtrsm, decltype(Blas::dtrsm)>::call;
constexpr auto dpotrf_alone = Alone<&Blas::dpotrf, decltype(Blas::dpotrf)>::call;

void choose_kernels() {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) setenv("OPENBLAS_CORETYPE", avx512 ? "SKYLAKEX" : "HASWELL", /*overwrite=*/0);
  // Sums must not depend on a number of threads; narrow divides the work over its own.
  setenv("OPENBLAS_NUM_THREADS", "1", /*overwrite=*/1);
}

Blas load() {
  choose_kernels();
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    throw Error::failed(std::string("OpenBLAS does not load: ") + dlerror(), kLibrary,
                        "install libopenblas0-pthread");
  const auto symbol = [&](const char* name) {
    void* found = dlsym(library, name);
    if (!found) throw Error::failed(std::string("there is no ") + name, kLibrary);
    return found;
  };
  // 0 for the serial build. Its threads take their workspaces without a lock: two that call it at
  // the same instant may get the same one, and wrong products (0.3.21: blas_memory_alloc unlocks
  // before it looks for a free one).
  const bool serial = reinterpret_cast<int (*)()>(symbol("openblas_get_parallel"))() == 0;
  Blas result{};
  result.sgemm = reinterpret_cast<decltype(result.sgemm)>(symbol("cblas_sgemm"));
  result.dgemm = reinterpret_cast<decltype(result.dgemm)>(symbol("cblas_dgemm"));
  result.dtrsm = reinterpret_cast<decltype(result.dtrsm)>(symbol("cblas_dtrsm"));
  result.dpotrf = reinterpret_cast<decltype(result.dpotrf)>(symbol("dpotrf_"));
  if (!serial) return result;
  log::warning(
      "OpenBLAS is its serial build, which threads must not share: its calls wait for each "
      "other (install libopenblas0-pthread)");
  unguarded = result;
  return {sgemm_alone, dgemm_alone, dtrsm_alone, dpotrf_alone};
}

}  // namespace

const Blas& blas() {
  static const Blas loaded = load();
  return loaded;
}

}  // namespace narrow::quantize
