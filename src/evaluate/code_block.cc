#include "evaluate/code_block.h"

#include "evaluate/filter.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate {

std::string first_code_block(const std::string& response) {
  static const Pattern block(R"((?s)```(?:\w+)?\n?(.*?)\n?```)");
  auto found = block.find_all("```" + response);
  if (found.empty()) found = block.find_all(python::replace(response, "```python", "```"));
  return found.empty() ? std::string() : found.front();
}

}  // namespace narrow::evaluate
