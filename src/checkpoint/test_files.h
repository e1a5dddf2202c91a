// What the tests of this room share: hand-made safetensors files in a folder that vanishes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/temporary_directory.h"

namespace narrow::checkpoint {

// Length, header, data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

}  // namespace narrow::checkpoint
