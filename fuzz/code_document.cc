// A line of an EvalPlus data set of arbitrary bytes: a document, or refused with an Error.
#include "base/error.h"
#include "evaluate/code_documents.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narrow;
  try {
    evaluate::parse_code_document(std::string_view(reinterpret_cast<const char*>(data), size),
                                  "fuzz");
  } catch (const Error&) {
  }
  return 0;
}
