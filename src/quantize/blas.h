// The matrix routines of OpenBLAS, loaded at first use. OpenBLAS knows processors by their model
// number and takes its slowest kernels (SSE3) on one newer than itself; which it takes can be said
// only before it is loaded. So the library is not linked: it is loaded after OPENBLAS_CORETYPE has
// been set to what the processor can do (a value that is there already is kept). Threads may call
// the routines side by side; each call computes on its caller's thread alone.
#pragma once

#include <cblas.h>

namespace narrow::quantize {

struct Blas {
  decltype(&cblas_sgemm) sgemm;
  decltype(&cblas_dgemm) dgemm;
  decltype(&cblas_dtrsm) dtrsm;
  // LAPACK: Cholesky factor, in place.
  void (*dpotrf)(const char* uplo, const int* n, double* a, const int* lda, int* info);
};

// Throws Error::failed when the library is not installed.
const Blas& blas();

}  // namespace narrow::quantize
