#include "ops/cuda_plugin.h"

#include <dlfcn.h>

#include <filesystem>

#include "base/error.h"

namespace narrow::ops {
namespace {

constexpr char kLibrary[] = "libnarrow_cuda.so";

// Never closed: backends and their error types live in it.
void* open_library(std::string& why) {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  for (const std::string& path :
       {(program.parent_path() / kLibrary).string(), std::string(kLibrary)}) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    // A library that is there and does not load says more than one that is not.
    if (why.empty() || std::filesystem::exists(path, ignored)) why = dlerror();
  }
  return nullptr;
}

using Stamp = const char* (*)();
using Make = Backend* (*)(int, CudaKernels);

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int threads, CudaKernels kernels) {
  std::string why;
  static void* const library = open_library(why);
  if (!library) {
    throw Error::refused("no CUDA backend: " + (why.empty() ? std::string(kLibrary) : why),
                         "--backend cuda", "build with scripts/build --cuda, or use --backend cpu");
  }
  const auto stamp = reinterpret_cast<Stamp>(dlsym(library, "narrow_cuda_stamp"));
  const auto make = reinterpret_cast<Make>(dlsym(library, "narrow_cuda_backend"));
  if (!stamp || !make || std::string(stamp()) != NARROW_OPS_STAMP) {
    throw Error::refused(std::string(kLibrary) + " is of another version than this program",
                         "--backend cuda", "build both together");
  }
  return std::unique_ptr<Backend>(make(threads, kernels));
}

std::unique_ptr<Backend> try_cuda_backend(int threads) {
  try {
    return make_cuda_backend(threads);
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::refused) throw;
    return nullptr;
  }
}

}  // namespace narrow::ops
