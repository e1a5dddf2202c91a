// On which backends the tests of this room run: the host's, or in the program that needs a GPU
// (CMakeLists.txt) that one.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#ifndef NARROW_TEST_BACKENDS
#define NARROW_TEST_BACKENDS "cpu reference"
#endif

namespace narrow::engine {

inline std::vector<std::string> test_backends() {
  std::istringstream names(NARROW_TEST_BACKENDS);
  std::vector<std::string> list;
  for (std::string name; names >> name;) list.push_back(name);
  return list;
}

// Of a KV cache of stories260K that holds so many blocks.
inline int64_t kv_bytes_of(int64_t blocks, const std::string& backend) {
  constexpr int64_t kLayers = 5, kKvHeads = 4, kHeadDim = 8, kTokens = 16;
  return blocks * kLayers * 2 * kKvHeads * kTokens * kHeadDim * (backend == "reference" ? 4 : 2);
}

}  // namespace narrow::engine
