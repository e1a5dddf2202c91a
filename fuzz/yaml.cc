// A YAML file of arbitrary text: a recipe, a task, or refused with an Error.
#include "base/error.h"
#include "base/json.h"
#include "evaluate/task.h"
#include "memory_file.h"
#include "quantize/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    quantize::parse_recipe(
        parse_yaml(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz"), "fuzz");
  } catch (const Error&) {
  }
  const fuzz::MemoryFile memory(data, size);
  try {
    evaluate::load_task(memory.path());
  } catch (const Error&) {
  }
  return 0;
}
