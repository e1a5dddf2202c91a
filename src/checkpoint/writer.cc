#include "checkpoint/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "base/file.h"
#include "base/interrupt.h"
#include "checkpoint/safetensors.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

// A nameless file that tensors wait in until their shard is complete and can be laid out in order.
class Spool {
 public:
  explicit Spool(const fs::path& directory) : where_(directory.string()) {
    const fs::path name = directory / "spool";
    fd_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd_ < 0) throw Error::failed(std::string("cannot create: ") + std::strerror(errno), where_);
    unlink(name.c_str());
  }
  Spool(const Spool&) = delete;
  ~Spool() { close(fd_); }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      fault_point("ckpt.write", where_);
      const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0)
        throw Error::failed(std::string("write failed: ") + std::strerror(errno), where_,
                            errno == ENOSPC ? "free some space and run the command again" : "");
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
  }

  void copy(int64_t offset, int64_t count, OutputFile& out) const {
    std::vector<std::byte> chunk;
    while (count > 0) {
      constexpr int64_t kChunkBytes = int64_t{8} << 20;
      chunk.resize(static_cast<size_t>(std::min(count, kChunkBytes)));
      const ssize_t got = pread(fd_, chunk.data(), chunk.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw Error::failed("cannot read back what was written", where_);
      out.write(std::span(chunk).first(static_cast<size_t>(got)));
      offset += got;
      count -= got;
    }
  }

 private:
  std::string where_;
  int fd_;
};

// The order in which the reference library lays tensors out: widest alignment first.
int order_of(DType dtype) {
  switch (dtype) {
    case DType::i64:
      return 0;
    case DType::f32:
      return 1;
    case DType::i32:
      return 2;
    case DType::bf16:
      return 3;
    case DType::f16:
      return 4;
    case DType::f8_e4m3:
      return 5;
    case DType::i8:
      return 6;
    case DType::u8:
      return 7;
  }
  return 8;
}

struct Waiting {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  int64_t offset, bytes;  // in the spool
};

// i8 [rows, columns] packed along rows: i32 [ceil(rows * bits / 32), columns].
Tensor pack_rows(const Tensor& codes, int bits) {
  Tensor turned(DType::i8, {codes.dim(1), codes.dim(0)});
  for (int64_t r = 0; r < codes.dim(0); ++r)
    for (int64_t c = 0; c < codes.dim(1); ++c)
      turned.matrix<int8_t>()(c, r) = codes.matrix<int8_t>()(r, c);
  const Tensor words = pack_codes(turned, bits);
  Tensor result(DType::i32, {words.dim(1), words.dim(0)});
  for (int64_t r = 0; r < words.dim(1); ++r)
    for (int64_t c = 0; c < words.dim(0); ++c)
      result.matrix<int32_t>()(r, c) = words.matrix<int32_t>()(c, r);
  return result;
}

// Sorted keys and two blanks, as the peers write config.json.
std::string sorted_text(const Json& document) {
  return nlohmann::json::parse(document.dump()).dump(2) + "\n";
}

}  // namespace

struct Writer::State {
  fs::path directory, partial;
  WriterOptions options;
  int lock = -1;
  std::unique_ptr<Spool> spool;
  std::vector<Waiting> waiting;
  int64_t waiting_bytes = 0;
  int64_t total_bytes = 0;
  std::vector<std::vector<std::string>> shards;  // names of the tensors in each finished shard
  std::set<std::string> names, files;
  std::map<std::string, Scheme> schemes;
  bool finished = false;

  State(const fs::path& wanted, const WriterOptions& given) : options(given) {
    directory = wanted.lexically_normal();
    if (!directory.has_filename()) directory = directory.parent_path();
    partial = directory.string() + ".partial";
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(directory)) &&
        (!fs::is_directory(directory) || !fs::is_empty(directory, ignored)))
      throw Error::refused("exists and is not an empty directory", directory.string(),
                           "choose another name or remove it");
    if (directory.has_parent_path()) fs::create_directories(directory.parent_path());
    claim();
  }

  // A partial directory left by a killed run is taken over; one in use is not.
  void claim() {
    if (mkdir(partial.c_str(), 0755) != 0 && errno != EEXIST)
      throw Error::failed(std::string("cannot create: ") + std::strerror(errno), partial.string());
    lock = ::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (lock < 0)
      throw Error::refused(std::string("cannot open: ") + std::strerror(errno), partial.string());
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
      close(std::exchange(lock, -1));
      throw Error::refused("another process is writing this checkpoint", partial.string());
    }
    for (const auto& entry : fs::directory_iterator(partial)) fs::remove_all(entry.path());
  }

  ~State() {
    if (lock < 0) return;
    std::error_code ignored;
    if (!finished) fs::remove_all(partial, ignored);
    close(lock);
  }

  void add(const std::string& name, const Tensor& tensor) {
    throw_if_interrupted();
    if (name.empty() || name == "__metadata__")
      throw Error::refused("bad tensor name \"" + name + "\"", directory.string());
    if (!names.insert(name).second)
      throw Error::refused("tensor \"" + name + "\" given twice", directory.string());
    const int64_t bytes = tensor.size_bytes();
    if (!waiting.empty() && waiting_bytes + bytes > options.shard_bytes) flush();
    if (!spool) spool = std::make_unique<Spool>(partial);
    spool->append(tensor.raw());
    waiting.push_back({name, tensor.dtype(), tensor.shape(), waiting_bytes, bytes});
    waiting_bytes += bytes;
    total_bytes += bytes;
  }

  fs::path shard_path(size_t index) const {
    return partial / fmt::format("shard-{:05}.safetensors", index);
  }

  void flush() {
    std::sort(waiting.begin(), waiting.end(), [](const Waiting& a, const Waiting& b) {
      return std::pair(order_of(a.dtype), a.name) < std::pair(order_of(b.dtype), b.name);
    });
    Json header;
    header["__metadata__"] = {{"format", "pt"}};
    int64_t offset = 0;
    auto& entries = header.get_ref<Json::object_t&>();
    for (const Waiting& item : waiting) {
      entries.emplace_back(item.name, Json{{"dtype", safetensors_name(item.dtype)},
                                           {"shape", item.shape},
                                           {"data_offsets", {offset, offset + item.bytes}}});
      offset += item.bytes;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    OutputFile file(shard_path(shards.size()));
    const uint64_t length = text.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(text);
    std::vector<std::string> written;
    for (const Waiting& item : waiting) {
      spool->copy(item.offset, item.bytes, file);
      written.push_back(item.name);
    }
    file.commit();
    shards.push_back(std::move(written));
    waiting.clear();
    waiting_bytes = 0;
    spool.reset();
  }

  void name_shards() {
    const size_t count = shards.size();
    std::map<std::string, std::string> weight_map;
    for (size_t i = 0; i < count; ++i) {
      const std::string name = count == 1
                                   ? "model.safetensors"
                                   : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
      fs::rename(shard_path(i), partial / name);
      for (const std::string& tensor : shards[i]) weight_map[tensor] = name;
    }
    if (count == 1) return;
    const Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
    write_text(partial / "model.safetensors.index.json", index.dump(2) + "\n");
  }

  void add_file(const std::string& name, const std::string& text) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      throw Error::refused("bad file name \"" + name + "\"", directory.string());
    if (!files.insert(name).second)
      throw Error::refused("file \"" + name + "\" given twice", directory.string());
    write_text(partial / name, text);
  }

  void add_document(const std::string& name, const std::string& text) {
    if (!text.empty()) add_file(name, text);
  }

  // config: the text of config.json.
  void finish(const Documents& documents, const std::string& config) {
    if (waiting.empty() && shards.empty())
      throw Error::refused("no tensor was added", directory.string());
    if (!waiting.empty()) flush();
    name_shards();
    add_file("config.json", config);
    add_document("generation_config.json", documents.generation_config);
    add_document("tokenizer.json", documents.tokenizer);
    add_document("tokenizer_config.json", documents.tokenizer_config);
    add_document("chat_template.jinja", documents.chat_template);
    open(partial);  // refuses what would not load
    sync_directory(partial);
    fault_point("ckpt.rename", directory.string());
    if (rename(partial.c_str(), directory.c_str()) != 0)
      throw Error::failed(std::string("cannot rename: ") + std::strerror(errno),
                          directory.string());
    finished = true;
    sync_directory(directory.has_parent_path() ? directory.parent_path() : fs::path("."));
  }
};

Writer::Writer(const fs::path& directory, const WriterOptions& options)
    : state_(std::make_unique<State>(directory, options)) {}

Writer::~Writer() = default;

void Writer::add(const std::string& name, const Tensor& tensor) { state_->add(name, tensor); }

void Writer::add(const std::string& module, const PackedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const auto put = [&](const char* tensor, const Tensor& value) {
    if (!value.empty()) state_->add(module + "." + tensor, value);
  };
  const bool packed = linear.weight.dtype() == DType::i32;
  if (packed) {
    Tensor shape(DType::i64, {2});
    shape.as<int64_t>()[0] = linear.out;
    shape.as<int64_t>()[1] = linear.in;
    put("weight_packed", linear.weight);
    put("weight_shape", shape);
  } else {
    put("weight", linear.weight);
  }
  put("weight_scale", linear.scale);
  if (!linear.zero_point.empty())
    put("weight_zero_point",
        packed ? pack_rows(linear.zero_point, scheme.weights->bits) : linear.zero_point);
  put("weight_g_idx", linear.group_index);
  put("input_scale", linear.input_scale);
  put("bias", linear.bias);
  state_->schemes[module] = scheme;
}

void Writer::add_file(const std::string& name, const std::string& text) {
  state_->add_file(name, text);
}

void Writer::finish(const Documents& documents) {
  Json config = parse_json(documents.config, "config.json");
  if (!config.is_object()) throw Error::refused("not a JSON object", "config.json");
  config.erase("compression_config");
  config.erase("quantization_config");
  const Json quantization = quantization_config(state_->schemes);
  if (!quantization.empty()) config["quantization_config"] = quantization;
  state_->finish(documents, sorted_text(config));
}

void write_directory(const Checkpoint& source, const fs::path& directory) {
  Writer writer(directory);
  for (const std::string& name : source.tensor_names()) writer.add(name, source.read(name));
  writer.state_->finish(source.documents(), source.documents().config);
}

}  // namespace narrow::checkpoint
