// Downloads from the Hugging Face hub into its cache, honouring HF_ENDPOINT, HF_HOME, HF_TOKEN and
// HF_HUB_OFFLINE. Files are resumable, checked against the size and hash the hub gives, and appear
// by atomic rename.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace narrow::checkpoint {

// "org/name" or "org/name@revision"; false for anything that is a path on this machine.
bool looks_like_hub_name(const std::string& model);

// Folder of the snapshot, downloaded when it is not in the cache. Only the files a model needs
// (*.json, *.jinja, *.safetensors, 1_Pooling/config.json of a sentence encoder) are fetched. Throws
// Error::refused for an unknown repository, Error::failed for network trouble.
std::filesystem::path snapshot(const std::string& repository);

// All model-loading verbs start here: a directory, a .gguf file or a hub name.
std::filesystem::path resolve_model(const std::string& model);

// Copies a snapshot into `directory` (narrow pull).
void pull(const std::string& repository, const std::filesystem::path& directory);

}  // namespace narrow::checkpoint
