// A GGUF file of arbitrary bytes: opened as a model and read whole, or refused with an Error.
#include "base/error.h"
#include "checkpoint/gguf_checkpoint.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  const fuzz::MemoryFile memory(data, size);
  try {
    const checkpoint::GgufFile file{InputFile(memory.path())};
    for (const auto& [name, tensor] : file.tensors())
      if (file.read(name).shape() != tensor.shape) std::abort();
    const auto model = checkpoint::open_gguf(memory.path());
    for (const std::string& name : model->tensor_names()) model->read(name);
  } catch (const Error&) {
  }
  return 0;
}
