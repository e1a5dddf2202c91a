// A safetensors file of arbitrary bytes: read whole or refused with an Error, nothing else.
#include "checkpoint/safetensors.h"

#include "base/error.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  const fuzz::MemoryFile memory(data, size);
  try {
    const checkpoint::SafetensorsFile file{InputFile(memory.path())};
    int64_t read_bytes = 0;
    for (const auto& [name, entry] : file.entries()) {
      read_bytes += entry.end - entry.begin;
      if (entry.dtype && file.read(name).size_bytes() != entry.end - entry.begin) std::abort();
    }
    // Every byte belongs to exactly one tensor.
    if (read_bytes != file.data_bytes()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
