#include "quantize/blas.h"

#include <dlfcn.h>

#include <cstdlib>

#include "base/error.h"

namespace narrow::quantize {
namespace {

constexpr const char* kLibrary = "libopenblas.so.0";

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
                        "install libopenblas0-serial");
  const auto symbol = [&](const char* name) {
    void* found = dlsym(library, name);
    if (!found) throw Error::failed(std::string("there is no ") + name, kLibrary);
    return found;
  };
  Blas result{};
  result.sgemm = reinterpret_cast<decltype(result.sgemm)>(symbol("cblas_sgemm"));
  result.dpotrf = reinterpret_cast<decltype(result.dpotrf)>(symbol("dpotrf_"));
  result.dtrtri = reinterpret_cast<decltype(result.dtrtri)>(symbol("dtrtri_"));
  return result;
}

}  // namespace

const Blas& blas() {
  static const Blas loaded = load();
  return loaded;
}

}  // namespace narrow::quantize
