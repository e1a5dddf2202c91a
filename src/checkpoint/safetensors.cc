#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/checked.h"

namespace narrow::checkpoint {
namespace {

constexpr int64_t kMaxHeaderBytes = int64_t{64} << 20;
constexpr size_t kMaxDimensions = 8;
// Bounds the memory of a hostile header; published files stay below 10,000.
constexpr size_t kMaxTensors = 1 << 18;
// Of a large tensor, read side by side: a thread that fills memory for the first time is slower
// than the page cache. A thread is started in well under a thousandth of what such a piece takes.
constexpr int64_t kLeastPieceBytes = int64_t{64} << 20;
constexpr int64_t kMostPieces = 16;

struct TypeName {
  const char* name;
  int64_t bytes;
  std::optional<DType> dtype;
};

// Sub-byte types (F4, F6) are absent: their tensors have no whole bytes per element.
const TypeName kTypes[] = {
    {"F32", 4, DType::f32},   {"F16", 2, DType::f16},
    {"BF16", 2, DType::bf16}, {"F8_E4M3", 1, DType::f8_e4m3},
    {"I8", 1, DType::i8},     {"U8", 1, DType::u8},
    {"I32", 4, DType::i32},   {"I64", 8, DType::i64},
    {"F64", 8, {}},           {"BOOL", 1, {}},
    {"I16", 2, {}},           {"U16", 2, {}},
    {"U32", 4, {}},           {"U64", 8, {}},
    {"C64", 8, {}},           {"F8_E5M2", 1, {}},
    {"F8_E8M0", 1, {}},
};

const TypeName* find_type(std::string_view name) {
  for (const TypeName& type : kTypes)
    if (name == type.name) return &type;
  return nullptr;
}

// Receives the parser's events and accepts the one shape a header may have. Memory grows with the
// tensors declared, not with what a hostile header nests.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(std::map<std::string, SafetensorsEntry>& entries, const std::string& where)
      : entries_(entries), where_(where) {}

  bool null() override { refuse("unexpected null"); }
  bool boolean(bool) override { refuse("unexpected boolean"); }
  bool number_float(double, const std::string&) override { refuse("unexpected fraction"); }
  bool binary(nlohmann::json::binary_t&) override { refuse("unexpected bytes"); }
  bool number_integer(int64_t) override { refuse("negative number"); }

  bool number_unsigned(uint64_t value) override {
    const int64_t number = checked_from_u64(value, place());
    if (state_ == State::shape) {
      if (entry_.shape.size() == kMaxDimensions) refuse("more than 8 dimensions");
      entry_.shape.push_back(number);
    } else if (state_ == State::offsets) {
      if (offsets_ == 2) refuse("more than two data_offsets");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = number;
    } else {
      refuse("unexpected number");
    }
    return true;
  }

  bool string(std::string& text) override {
    if (state_ == State::metadata) return true;
    if (state_ != State::tensor || field_ != "dtype") refuse("unexpected text");
    const TypeName* type = find_type(text);
    if (!type) refuse("unknown dtype \"" + text.substr(0, 32) + "\"");
    entry_.dtype_name = type->name;
    entry_.dtype = type->dtype;
    field_.clear();
    return true;
  }

  bool start_object(size_t) override {
    if (state_ == State::start) {
      state_ = State::top;
    } else if (state_ == State::top) {
      if (name_ == "__metadata__") {
        state_ = State::metadata;
        keys_.clear();
      } else {
        state_ = State::tensor;
        entry_ = {};
        offsets_ = 0;
        field_.clear();
        keys_.clear();
      }
    } else {
      refuse("unexpected object");
    }
    return true;
  }

  bool key(std::string& text) override {
    if (state_ == State::top) {
      check_name(text);
      name_ = text;
      if (text == "__metadata__") {
        if (std::exchange(metadata_seen_, true)) refuse("__metadata__ twice");
      } else if (entries_.count(text)) {
        refuse("the tensor is named twice");
      }
      return true;
    }
    if (!keys_.insert(text).second) refuse("field \"" + text.substr(0, 32) + "\" twice");
    if (state_ == State::tensor) {
      if (text != "dtype" && text != "shape" && text != "data_offsets")
        refuse("unknown field \"" + text.substr(0, 32) + "\"");
      field_ = text;
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::tensor) {
      if (keys_.size() != 3) refuse("needs dtype, shape and data_offsets");
      if (offsets_ != 2) refuse("data_offsets needs two numbers");
      if (entries_.size() == kMaxTensors) refuse("more than 262144 tensors");
      entries_.emplace(name_, entry_);
    }
    state_ = state_ == State::top ? State::end : State::top;
    return true;
  }

  bool start_array(size_t) override {
    if (state_ != State::tensor || (field_ != "shape" && field_ != "data_offsets"))
      refuse("unexpected list");
    state_ = field_ == "shape" ? State::shape : State::offsets;
    return true;
  }

  bool end_array() override {
    state_ = State::tensor;
    field_.clear();
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    throw Error::refused(std::string("the header is not valid JSON: ") + error.what(), where_);
  }

 private:
  enum class State { start, top, metadata, tensor, shape, offsets, end };

  std::string place() const {
    return name_.empty() ? where_ : where_ + ": tensor " + name_.substr(0, 256);
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error::refused("bad safetensors header: " + what, place());
  }
  void check_name(const std::string& name) const {
    if (name.empty()) refuse("empty tensor name");
    if (name.find('\0') != std::string::npos || name.find('/') != std::string::npos ||
        name.find("..") != std::string::npos)
      refuse("tensor name with NUL, '/' or '..'");
  }

  std::map<std::string, SafetensorsEntry>& entries_;
  const std::string& where_;
  State state_ = State::start;
  bool metadata_seen_ = false;
  std::string name_, field_;
  std::set<std::string> keys_;
  SafetensorsEntry entry_;
  int offsets_ = 0;
};

}  // namespace

std::map<std::string, SafetensorsEntry> parse_safetensors_header(std::string_view header,
                                                                 int64_t data_bytes,
                                                                 const std::string& where) {
  if (header.empty() || header.front() != '{')
    throw Error::refused("the safetensors header does not start with '{'", where);
  std::map<std::string, SafetensorsEntry> entries;
  HeaderHandler handler(entries, where);
  nlohmann::json::sax_parse(header, &handler);

  std::vector<std::pair<int64_t, const std::pair<const std::string, SafetensorsEntry>*>> order;
  for (const auto& item : entries) {
    const SafetensorsEntry& entry = item.second;
    const std::string place = where + ": tensor " + item.first;
    const int64_t bytes = checked_mul(checked_elements(entry.shape, place),
                                      find_type(entry.dtype_name)->bytes, place);
    if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
      throw Error::refused("data_offsets span " + std::to_string(entry.end - entry.begin) +
                               " bytes, " + entry.dtype_name + " " + to_string(entry.shape) +
                               " needs " + std::to_string(bytes),
                           place);
    }
    order.emplace_back(entry.begin, &item);
  }
  // Empty tensors sort before the one that starts where they stand.
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->second.end) < std::pair(b.first, b.second->second.end);
  });
  int64_t next = 0;
  for (const auto& [begin, item] : order) {
    if (begin != next) {
      throw Error::refused(begin > next ? "a hole before this tensor's data"
                                        : "this tensor's data overlaps another's",
                           where + ": tensor " + item->first);
    }
    next = item->second.end;
  }
  if (next != data_bytes) {
    throw Error::refused("the tensors own " + std::to_string(next) + " bytes, the file has " +
                             std::to_string(data_bytes) + " after its header",
                         where, "truncated or damaged? copy or download it again");
  }
  return entries;
}

SafetensorsFile::SafetensorsFile(InputFile file) : file_(std::move(file)) {
  const std::string where = path().string();
  if (file_.size_bytes() < 8)
    throw Error::refused("not a safetensors file: shorter than 8 bytes", where);
  uint64_t length = 0;
  file_.read(0, std::as_writable_bytes(std::span(&length, 1)));
  const int64_t header_bytes = checked_from_u64(length, where);
  if (header_bytes > kMaxHeaderBytes)
    throw Error::refused("safetensors header above 64 MiB", where);
  if (header_bytes > file_.size_bytes() - 8) {
    throw Error::refused("the safetensors header needs " + std::to_string(header_bytes) +
                             " bytes, the file has " + std::to_string(file_.size_bytes()),
                         where, "truncated? copy or download it again");
  }
  data_offset_ = 8 + header_bytes;
  std::string header(static_cast<size_t>(header_bytes), '\0');
  file_.read(8, std::as_writable_bytes(std::span(header)));
  entries_ = parse_safetensors_header(header, data_bytes(), where);
}

Tensor SafetensorsFile::read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw Error::refused("no tensor \"" + name + "\"", path().string());
  const SafetensorsEntry& entry = found->second;
  if (!entry.dtype)
    throw Error::refused("dtype " + entry.dtype_name + " is not supported",
                         path().string() + ": tensor " + name);
  Tensor tensor = Tensor::unfilled(*entry.dtype, entry.shape);
  if (tensor.empty()) return tensor;
  const int64_t bytes = tensor.size_bytes();
  const int64_t piece = std::max(kLeastPieceBytes, (bytes + kMostPieces - 1) / kMostPieces);
  const auto read_piece = [&](int64_t at) {
    file_.read(data_offset_ + entry.begin + at,
               tensor.raw().subspan(static_cast<size_t>(at),
                                    static_cast<size_t>(std::min(piece, bytes - at))));
  };
  std::vector<std::future<void>> others;
  for (int64_t at = piece; at < bytes; at += piece)
    others.push_back(std::async(std::launch::async, read_piece, at));
  read_piece(0);
  for (std::future<void>& other : others) other.get();
  return tensor;
}

std::string_view safetensors_name(DType dtype) {
  for (const TypeName& type : kTypes)
    if (type.dtype == dtype) return type.name;
  return "";
}

}  // namespace narrow::checkpoint
