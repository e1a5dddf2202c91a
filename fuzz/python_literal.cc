// A list as Python writes it, from a data set: a value, or refused with an Error.
#include "evaluate/python_literal.h"

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    evaluate::parse_python_literal(std::string_view(reinterpret_cast<const char*>(data), size),
                                   "fuzz");
  } catch (const Error&) {
  }
  return 0;
}
