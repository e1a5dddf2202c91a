// Writes a Hugging Face directory: safetensors shards, index, config.json with
// `quantization_config`, tokenizer files. Everything goes to "<directory>.partial"; finish()
// checks, syncs and renames, so a directory that exists is whole. The bytes are a function of the
// input alone (no time, no host name). Not to be shared between threads.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace narrow::checkpoint {

struct WriterOptions {
  int64_t shard_bytes = int64_t{5} << 30;
};

class Writer {
 public:
  // Refuses a directory that exists and is not empty.
  explicit Writer(const std::filesystem::path& directory, const WriterOptions& options = {});
  ~Writer();  // without finish(), the partial directory is removed

  // Tensors are written as they come, shard by shard. Refuses a name given twice.
  void add(const std::string& name, const Tensor& tensor);
  // Adds all stored tensors of `linear` under "<module>.": weight_packed, weight_scale, ...
  void add(const std::string& module, const PackedLinear& linear);

  // An extra file, such as narrow.json. `name` is a single path component.
  void add_file(const std::string& name, const std::string& text);

  // Writes config.json (documents.config plus a quantization_config derived from the schemes of
  // the linears added; none when all are dense), the other documents and the index; then renames.
  void finish(const Documents& documents);

 private:
  friend void write_directory(const Checkpoint& source, const std::filesystem::path& directory);
  struct State;
  std::unique_ptr<State> state_;
};

// The quantization_config object for these modules (docs/formats.md): sorted keys, one config group
// per distinct scheme, `ignore` naming every dense linear. {} when all are dense.
Json quantization_config(const std::map<std::string, Scheme>& schemes);

// Copies a checkpoint into a Hugging Face directory, unchanged in value: a GGUF file becomes bf16
// safetensors.
void write_directory(const Checkpoint& source, const std::filesystem::path& directory);

}  // namespace narrow::checkpoint
