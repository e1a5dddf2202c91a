#include "ops/cuda_plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "base/error.h"
#include "base/log.h"

namespace narrow::ops {
namespace {

constexpr char kLibrary[] = "libnarrow_cuda.so";

struct Library {
  void* handle = nullptr;  // never closed: backends and their error types live in it
  bool beside = false;     // whether there is a file beside the program, loaded or not
  std::string why;         // it was not loaded
};

Library open_library() {
  std::error_code ignored;
  const auto beside =
      std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path() / kLibrary;
  Library library;
  library.beside = std::filesystem::exists(beside, ignored);
  library.handle = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library.handle) {
    library.why = dlerror();
    library.handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  }
  return library;
}

const Library& library() {
  static const Library once = open_library();
  return once;
}

using Stamp = const char* (*)();
using Make = Backend* (*)(int, CudaKernels);

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int threads, CudaKernels kernels) {
  if (!library().handle)
    throw Error::refused("no CUDA backend: " + library().why, "--backend cuda",
                         "build with scripts/build --cuda, or use --backend cpu");
  const auto stamp = reinterpret_cast<Stamp>(dlsym(library().handle, "narrow_cuda_stamp"));
  const auto make = reinterpret_cast<Make>(dlsym(library().handle, "narrow_cuda_backend"));
  if (!stamp || !make || std::string(stamp()) != NARROW_OPS_STAMP) {
    throw Error::refused(std::string(kLibrary) + " is of another version than this program",
                         "--backend cuda", "build both together, or use --backend cpu");
  }
  return std::unique_ptr<Backend>(make(threads, kernels));
}

std::unique_ptr<Backend> try_cuda_backend(int threads) {
  if (!library().handle && !library().beside) return nullptr;
  try {
    return make_cuda_backend(threads);
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::refused) throw;
    static std::once_flag said;
    std::call_once(said, [&] { log::warning("--backend auto takes cpu; {}", error.what()); });
    return nullptr;
  }
}

}  // namespace narrow::ops
