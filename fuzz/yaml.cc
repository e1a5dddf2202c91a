// A YAML document of arbitrary text: a recipe, or refused with an Error. (Tasks read data files
// too.)
#include "base/error.h"
#include "base/json.h"
#include "quantize/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    quantize::parse_recipe(
        parse_yaml(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz"), "fuzz");
  } catch (const Error&) {
  }
  return 0;
}
