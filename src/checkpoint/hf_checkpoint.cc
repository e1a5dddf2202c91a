#include "checkpoint/hf_checkpoint.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base/checked.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/safetensors.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr int64_t kMaxDocumentBytes = int64_t{256} << 20;

std::string read_all(const InputFile& file) {
  if (file.size_bytes() > kMaxDocumentBytes)
    throw Error::refused("larger than 256 MiB", file.path().string());
  std::string text(static_cast<size_t>(file.size_bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

// tokenizer_config.json keeps the template as text, or as a list of named ones.
std::string template_of(const std::string& tokenizer_config, const std::string& where) {
  if (tokenizer_config.empty()) return {};
  const Json document = parse_json(tokenizer_config, where);
  const auto found = document.is_object() ? document.find("chat_template") : document.end();
  if (found == document.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const Json& item : *found)
      if (json_get<std::string>(item, "name", where) == "default")
        return json_get<std::string>(item, "template", where);
  }
  throw Error::refused("\"chat_template\" is neither a text nor a list with a \"default\"", where);
}

// model-00001-of-00002.safetensors
bool looks_like_shard(const std::string& name) {
  return name.starts_with("model-") && name.ends_with(".safetensors") &&
         name.find("-of-") != std::string::npos;
}

class HuggingFaceCheckpoint : public Checkpoint {
 public:
  explicit HuggingFaceCheckpoint(const fs::path& directory)
      : path_(directory), root_(link_root(directory)) {
    read_documents();
    const std::string where = (path_ / "config.json").string();
    const Json config = parse_json(documents_.config, where);
    config_ = parse_model_config(config, where);
    if (!documents_.generation_config.empty()) {
      const std::string place = (path_ / "generation_config.json").string();
      add_eos_ids(parse_json(documents_.generation_config, place), place, config_);
    }
    quantization_ = QuantizationConfig(config, where);
    const bool single = present(kSingle), sharded = present(kIndex);
    if (single && sharded)
      throw Error::refused(std::string("both ") + kSingle + " and " + kIndex + " are there",
                           path_.string(), "remove the one that is stale");
    if (!single && !sharded)
      throw Error::refused(std::string("neither ") + kSingle + " nor " + kIndex + " is there",
                           path_.string());
    single ? open_shard(kSingle) : open_shards();
    check_no_other_shards();
    warn_of_missing_kv_scales(where);
  }

  const fs::path& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const Documents& documents() const override { return documents_; }

  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& item : tensors_) names.push_back(item.first);
    return names;
  }
  bool contains(const std::string& name) const override { return tensors_.count(name) > 0; }
  TensorInfo info(const std::string& name) const override {
    const SafetensorsFile& file = holder(name);
    const SafetensorsEntry& entry = file.entries().at(name);
    if (!entry.dtype)
      throw Error::refused("dtype " + entry.dtype_name + " is not supported",
                           file.path().string() + ": tensor " + name);
    return {*entry.dtype, entry.shape};
  }
  Tensor read(const std::string& name) const override { return holder(name).read(name); }
  Scheme scheme(const std::string& module) const override { return quantization_.scheme(module); }
  bool kv_scales_are_fp8() const override { return !quantization_.has_other_kv_scheme(); }

  std::string fingerprint() const override {
    std::call_once(hashed_, [this] {
      std::vector<std::string> names(files_.begin(), files_.end());
      std::sort(names.begin(), names.end());
      std::vector<std::string> lines(names.size());
      ThreadPool pool;  // a processor hashes slower than files are read
      pool.parallel_for(static_cast<int64_t>(names.size()), 1, [&](int64_t begin, int64_t end) {
        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
          const fs::path file = path_ / names[i];
          lines[i] =
              names[i] + " " + std::to_string(fs::file_size(file)) + " " + sha256_file(file) + "\n";
        }
      });
      Sha256 hash;
      for (const std::string& line : lines) hash.add(line);
      fingerprint_ = hash.hex();
    });
    return fingerprint_;
  }

 private:
  // A dangling link counts as present, so that opening it names the trouble.
  bool present(const std::string& name) const {
    return fs::symlink_status(path_ / name).type() != fs::file_type::not_found;
  }

  InputFile open_file(const std::string& name) {
    files_.insert(name);
    return InputFile::beneath(path_, name, root_);
  }

  std::string document(const std::string& name) {
    return present(name) ? read_all(open_file(name)) : std::string();
  }

  void read_documents() {
    if (!present("config.json")) {
      throw Error::refused("no config.json", path_.string(),
                           "a model is a Hugging Face directory, a .gguf file or a hub name");
    }
    documents_.config = document("config.json");
    documents_.generation_config = document("generation_config.json");
    documents_.tokenizer = document("tokenizer.json");
    documents_.tokenizer_config = document("tokenizer_config.json");
    documents_.chat_template = document("chat_template.jinja");
    if (documents_.chat_template.empty()) {
      documents_.chat_template =
          template_of(documents_.tokenizer_config, (path_ / "tokenizer_config.json").string());
    }
  }

  void open_shard(const std::string& name) {
    auto file = std::make_unique<SafetensorsFile>(open_file(name));
    for (const auto& item : file->entries()) {
      const auto [at, fresh] = tensors_.emplace(item.first, file.get());
      if (!fresh) {
        throw Error::refused("tensor \"" + item.first + "\" is in two shards",
                             file->path().string() + " and " + at->second->path().string());
      }
    }
    shards_.push_back(std::move(file));
  }

  void open_shards() {
    const std::string where = (path_ / kIndex).string();
    const Json index = parse_json(read_all(open_file(kIndex)), where);
    const auto found = index.is_object() ? index.find("weight_map") : index.end();
    if (found == index.end() || !found->is_object() || found->empty())
      throw Error::refused("no \"weight_map\"", where);
    std::map<std::string, std::string> shard_of;
    std::set<std::string> shard_names;
    for (const auto& [tensor, shard] : found->items()) {
      if (!shard.is_string()) throw Error::refused("a shard's name is not a text", where);
      shard_of[tensor] = shard.get<std::string>();
      shard_names.insert(shard_of[tensor]);
    }
    constexpr size_t kMaxShards = 4096;
    if (shard_names.size() > kMaxShards) throw Error::refused("more than 4096 shards", where);
    for (const std::string& name : shard_names) open_shard(name);
    for (const auto& [tensor, file] : tensors_) {
      const auto expected = shard_of.find(tensor);
      if (expected == shard_of.end())
        throw Error::refused("tensor \"" + tensor + "\" is not in the index",
                             file->path().string());
      if (expected->second != file->path().filename())
        throw Error::refused("tensor \"" + tensor + "\" is in another shard than the index says",
                             file->path().string());
    }
    for (const auto& [tensor, shard] : shard_of)
      if (!tensors_.count(tensor))
        throw Error::refused("tensor \"" + tensor + "\" of the index is missing",
                             (path_ / shard).string());
    check_total_size(index, where);
  }

  void check_total_size(const Json& index, const std::string& where) const {
    const auto metadata = index.find("metadata");
    if (metadata == index.end() || !metadata->is_object() || !metadata->contains("total_size"))
      return;
    int64_t total = 0;
    for (const auto& shard : shards_) total = checked_add(total, shard->data_bytes(), where);
    const Json& stated = (*metadata)["total_size"];
    if (!stated.is_number() || stated.get<double>() != static_cast<double>(total))
      throw Error::refused("\"total_size\" is " + stated.dump().substr(0, 32) +
                               ", the shards hold " + std::to_string(total) + " bytes",
                           where);
  }

  void check_no_other_shards() const {
    for (const auto& entry : fs::directory_iterator(path_)) {
      const std::string name = entry.path().filename().string();
      if (looks_like_shard(name) && !files_.count(name))
        throw Error::refused("a shard that the index does not name", entry.path().string(),
                             "a mixture of two checkpoints? remove what does not belong");
    }
  }

  // model/kv_scales.h has the names.
  void warn_of_missing_kv_scales(const std::string& where) const {
    if (!quantization_.announces_kv_scales()) return;
    for (const auto& [name, file] : tensors_)
      if (name.ends_with(".k_scale") || name.ends_with(".k_proj.output_scale")) return;
    log::warning(
        "{}: kv_cache_scheme announces scales of keys and values, the file has none: they count "
        "as 1",
        where);
  }

  const SafetensorsFile& holder(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw Error::refused("no tensor \"" + name + "\"", path_.string());
    return *found->second;
  }

  const fs::path path_, root_;
  Documents documents_;
  ModelConfig config_;
  QuantizationConfig quantization_;
  std::set<std::string> files_;  // opened
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::map<std::string, const SafetensorsFile*> tensors_;
  mutable std::once_flag hashed_;
  mutable std::string fingerprint_;
};

}  // namespace

fs::path link_root(const fs::path& directory) {
  const fs::path absolute = fs::canonical(directory);
  const fs::path repository = absolute.parent_path().parent_path();
  if (absolute.parent_path().filename() == "snapshots" && fs::is_directory(repository / "blobs"))
    return repository;
  return absolute;
}

std::unique_ptr<Checkpoint> open_hugging_face(const fs::path& directory) {
  return std::make_unique<HuggingFaceCheckpoint>(directory);
}

}  // namespace narrow::checkpoint
