// A Hugging Face directory: config.json, safetensors (one file, or shards with their index),
// tokenizer files. Plain or compressed-tensors.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace narrow::checkpoint {

// Opens every file of the directory at once, so that what is missing or short is refused here.
std::unique_ptr<Checkpoint> open_hugging_face(const std::filesystem::path& directory);

// The folder that links of a model's directory may point into: a hub cache keeps
// <repository>/snapshots/<revision>/<name> as links into <repository>/blobs. Everywhere else links
// must stay inside the directory.
std::filesystem::path link_root(const std::filesystem::path& directory);

}  // namespace narrow::checkpoint
