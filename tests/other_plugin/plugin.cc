// A libnarrow_cuda.so whose headers were not the program's (ops/cuda_plugin.h).
#include <cstdlib>

extern "C" const char* narrow_cuda_stamp() { return "another"; }

extern "C" void* narrow_cuda_backend() { std::abort(); }
