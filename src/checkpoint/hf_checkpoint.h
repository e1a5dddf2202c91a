// A Hugging Face directory: config.json, safetensors (one file, or shards with their index),
// tokenizer files. Plain or compressed-tensors.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace narrow::checkpoint {

// Opens every file of the directory at once, so that what is missing or short is refused here.
std::unique_ptr<Checkpoint> open_hugging_face(const std::filesystem::path& directory);

}  // namespace narrow::checkpoint
