// A GGUF file seen as a Hugging Face checkpoint: names, row order and documents are translated.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"

namespace narrow::checkpoint {

// Throws Error::refused for another architecture than llama and qwen2.
std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path);

// The documents of gguf_documents.cc: config.json, tokenizer.json and so on from the metadata.
Documents gguf_documents(const GgufFile& file);

}  // namespace narrow::checkpoint
