// A library that writes which kernels and copies a program runs on the GPU, a line each in the
// order of their start: start and end in nanoseconds, and the kernel's name as compiled or
// "memcpy".
//
//   CUDA_INJECTION64_PATH=build/libkernel_trace.so KERNEL_TRACE=FILE PROGRAM...
//
// kernel_times.py makes a table of such a file; kernels_not_run.py tells which kernels of a library
// are in none.
#include <cupti.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

struct Activity {
  uint64_t start, end;
  std::string name;
};
std::vector<Activity>& activities() {
  static std::vector<Activity> all;
  return all;
}

void make_buffer(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  *bytes = 8 << 20;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, *bytes));
  *most_records = 0;  // as many as there is room for
}

void take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t filled) {
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, filled, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      const auto* of = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
      activities().push_back({of->start, of->end, of->name ? of->name : "?"});
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      const auto* of = reinterpret_cast<const CUpti_ActivityMemcpy5*>(record);
      activities().push_back({of->start, of->end, "memcpy"});
    }
  }
  std::free(buffer);
}

void write_activities() {
  cuptiActivityFlushAll(1);
  const char* name = std::getenv("KERNEL_TRACE");
  std::FILE* file = name ? std::fopen(name, "w") : nullptr;
  if (!file) {
    std::fprintf(stderr, "kernel_trace: KERNEL_TRACE names no file that can be written\n");
    return;
  }
  std::sort(activities().begin(), activities().end(),
            [](const Activity& a, const Activity& b) { return a.start < b.start; });
  for (const Activity& of : activities())
    std::fprintf(file, "%llu %llu %s\n", static_cast<unsigned long long>(of.start),
                 static_cast<unsigned long long>(of.end), of.name.c_str());
  std::fclose(file);
}

}  // namespace

// What the driver calls when it starts.
extern "C" int InitializeInjection() {
  activities();  // outlives write_activities()
  const bool traces = cuptiActivityRegisterCallbacks(make_buffer, take_buffer) == CUPTI_SUCCESS &&
                      cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) == CUPTI_SUCCESS &&
                      cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY) == CUPTI_SUCCESS;
  if (!traces) std::fprintf(stderr, "kernel_trace: CUPTI refuses\n");
  return traces && std::atexit(write_activities) == 0;
}
