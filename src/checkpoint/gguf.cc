#include "checkpoint/gguf.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace narrow::checkpoint {
namespace {

// Published files stay far below: 65 metadata keys, 3000 tensors, 12 MiB of vocabulary.
constexpr int64_t kMaxKeys = 65536;
constexpr int64_t kMaxTensors = 65536;
constexpr int64_t kMaxKeyBytes = 65535;
constexpr int64_t kMaxTextBytes = int64_t{16} << 20;
constexpr int64_t kMaxHeaderBytes = int64_t{256} << 20;
constexpr int64_t kMaxElements = 1 << 22;  // of a list that is asked for: a vocabulary
constexpr uint32_t kMaxDimensions = 4;

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// Bytes of a scalar; the least a string takes, its length.
int64_t least_bytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
    case kString:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

// Walks the file forwards through a small buffer; no read passes the end.
class GgufFile::Cursor {
 public:
  Cursor(const InputFile& file, int64_t position) : file_(file), position_(position) {}

  int64_t position() const { return position_; }
  int64_t left() const { return file_.size_bytes() - position_; }

  template <class T>
  T take() {
    T value;
    std::memcpy(&value, fetch(sizeof(T)), sizeof(T));
    position_ += static_cast<int64_t>(sizeof(T));
    return value;
  }

  int64_t take_count() { return checked_from_u64(take<uint64_t>(), where()); }

  std::string take_text(int64_t limit) {
    const int64_t length = take_length(limit);
    std::string text(static_cast<size_t>(length), '\0');
    if (length <= kBufferBytes) {
      std::memcpy(text.data(), fetch(text.size()), text.size());
    } else {
      file_.read(position_, std::as_writable_bytes(std::span(text)));
    }
    position_ += length;
    return text;
  }

  void skip_text() { position_ += take_length(kMaxTextBytes); }

  void skip(int64_t bytes) {
    if (bytes > left()) refuse_short();
    position_ += bytes;
  }

  std::string where() const {
    return file_.path().string() + ": byte " + std::to_string(position_);
  }

 private:
  static constexpr int64_t kBufferBytes = 1 << 16;

  int64_t take_length(int64_t limit) {
    const int64_t length = take_count();
    if (length > limit)
      throw Error::refused(
          "text of " + std::to_string(length) + " bytes, the limit is " + std::to_string(limit),
          where());
    if (length > left()) refuse_short();
    return length;
  }

  const std::byte* fetch(size_t bytes) {
    const auto size = static_cast<int64_t>(bytes);
    if (size > left()) refuse_short();
    if (position_ < start_ || position_ + size > start_ + static_cast<int64_t>(buffer_.size())) {
      start_ = position_;
      buffer_.resize(static_cast<size_t>(std::min(kBufferBytes, left())));
      file_.read(start_, buffer_);
    }
    return buffer_.data() + (position_ - start_);
  }

  [[noreturn]] void refuse_short() const {
    throw Error::refused("the GGUF file ends inside its header", where(),
                         "truncated? copy or download it again");
  }

  const InputFile& file_;
  int64_t position_;
  int64_t start_ = 0;
  std::vector<std::byte> buffer_;
};

GgufFile::GgufFile(InputFile file) : file_(std::move(file)) {
  Cursor cursor(file_, 0);
  if (cursor.left() < 24 || cursor.take<uint32_t>() != 0x46554747)  // "GGUF"
    throw Error::refused("not a GGUF file", path().string());
  const auto version = cursor.take<uint32_t>();
  if (version != 3)
    throw Error::refused("GGUF version " + std::to_string(version) + ", version 3 is supported",
                         path().string());
  const int64_t tensors = cursor.take_count(), keys = cursor.take_count();
  // A tensor takes 32 bytes at least, a key 13.
  if (tensors > std::min(kMaxTensors, cursor.left() / 32))
    throw Error::refused(std::to_string(tensors) + " tensors declared", path().string());
  if (keys > std::min(kMaxKeys, cursor.left() / 13))
    throw Error::refused(std::to_string(keys) + " metadata keys declared", path().string());
  read_metadata(cursor, keys);
  read_tensors(cursor, tensors);
  place_tensors(cursor.position());
}

void GgufFile::read_metadata(Cursor& cursor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const std::string key = cursor.take_text(kMaxKeyBytes);
    Value value;
    value.type = cursor.take<uint32_t>();
    if (value.type == kArray) {
      value.type = cursor.take<uint32_t>();
      value.count = cursor.take_count();
    }
    const int64_t least = least_bytes(value.type);
    if (least == 0)
      throw Error::refused("unknown value type " + std::to_string(value.type), place(key));
    const int64_t elements = value.count.value_or(1);
    if (elements > cursor.left() / least)
      throw Error::refused(std::to_string(elements) + " elements do not fit the file", place(key));
    value.offset = cursor.position();
    if (value.type == kString) {
      for (int64_t e = 0; e < elements; ++e) cursor.skip_text();
    } else {
      cursor.skip(elements * least);
    }
    if (cursor.position() > kMaxHeaderBytes)
      throw Error::refused("more than 256 MiB of metadata", place(key));
    if (!metadata_.emplace(key, value).second)
      throw Error::refused("metadata key given twice", place(key));
  }
}

void GgufFile::read_tensors(Cursor& cursor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const std::string name = cursor.take_text(kMaxKeyBytes);
    const std::string where = place("tensor " + name);
    GgufTensor tensor;
    const auto dimensions = cursor.take<uint32_t>();
    if (dimensions < 1 || dimensions > kMaxDimensions)
      throw Error::refused(std::to_string(dimensions) + " dimensions", where);
    for (uint32_t d = 0; d < dimensions; ++d) tensor.shape.push_back(cursor.take_count());
    const auto type = cursor.take<uint32_t>();
    tensor.type = find_gguf_type(type);
    if (!tensor.type) {
      throw Error::refused("GGUF tensor type " + std::to_string(type) + " is not supported", where,
                           "supported: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K");
    }
    tensor.offset = cursor.take_count();
    const int64_t row = tensor.shape[0];
    if (row % tensor.type->block_elements != 0)
      throw Error::refused("rows of " + std::to_string(row) + " do not divide into blocks of " +
                               std::string(tensor.type->name),
                           where);
    const int64_t elements = checked_elements(tensor.shape, where);
    if (elements == 0) throw Error::refused("a dimension is zero", where);
    tensor.bytes =
        checked_mul(elements / tensor.type->block_elements, tensor.type->block_bytes, where);
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    if (!tensors_.emplace(name, std::move(tensor)).second)
      throw Error::refused("tensor given twice", where);
  }
}

void GgufFile::place_tensors(int64_t header_end) {
  const int64_t alignment = integer("general.alignment").value_or(32);
  if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)) != 0)
    throw Error::refused(std::to_string(alignment) + " is not a power of two from 8 to 65536",
                         place("general.alignment"));
  const auto aligned = [&](int64_t bytes) {
    return checked_add(bytes, alignment - 1, path().string()) / alignment * alignment;
  };
  const int64_t data = aligned(header_end);
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [name, tensor] : tensors_) order.emplace_back(tensor.offset, name);
  std::sort(order.begin(), order.end());
  int64_t next = 0;
  int64_t end = header_end;
  for (const auto& [offset, name] : order) {
    GgufTensor& tensor = tensors_.at(name);
    const std::string where = place("tensor " + name);
    if (offset != next)
      throw Error::refused("data at offset " + std::to_string(offset) + ", expected " +
                               std::to_string(next) + ": tensors overlap or leave a hole",
                           where);
    tensor.offset = checked_add(data, offset, where);
    end = checked_add(tensor.offset, tensor.bytes, where);
    if (end > file_.size_bytes()) {
      throw Error::refused("the data ends at byte " + std::to_string(end) + ", the file at " +
                               std::to_string(file_.size_bytes()),
                           where, "truncated? copy or download it again");
    }
    next = aligned(checked_add(offset, tensor.bytes, where));
  }
  if (file_.size_bytes() > aligned(end))
    throw Error::refused(
        std::to_string(file_.size_bytes() - end) + " bytes after the last tensor belong to none",
        path().string());
}

const GgufFile::Value* GgufFile::find(const std::string& key, bool array) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return nullptr;
  if (found->second.count.has_value() != array)
    throw Error::refused(array ? "not a list" : "a list, one value expected", place(key));
  if (array && *found->second.count > kMaxElements)
    throw Error::refused("more than " + std::to_string(kMaxElements) + " elements", place(key));
  return &found->second;
}

std::optional<std::string> GgufFile::text(const std::string& key) const {
  const Value* value = find(key, /*array=*/false);
  if (!value) return {};
  if (value->type != kString) throw Error::refused("not a text", place(key));
  Cursor cursor(file_, value->offset);
  return cursor.take_text(kMaxTextBytes);
}

std::optional<bool> GgufFile::flag(const std::string& key) const {
  const Value* value = find(key, /*array=*/false);
  if (!value) return {};
  Cursor cursor(file_, value->offset);
  const auto byte = value->type == kBool ? cursor.take<uint8_t>() : uint8_t{2};
  if (byte > 1) throw Error::refused("not true or false", place(key));
  return byte == 1;
}

std::optional<double> GgufFile::real(const std::string& key) const {
  const Value* value = find(key, /*array=*/false);
  if (!value) return {};
  Cursor cursor(file_, value->offset);
  if (value->type == kF32) return cursor.take<float>();
  if (value->type == kF64) return cursor.take<double>();
  throw Error::refused("not a floating-point number", place(key));
}

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const Value* value = find(key, /*array=*/false);
  if (!value) return {};
  Cursor cursor(file_, value->offset);
  return take_integer(cursor, value->type, key);
}

std::optional<std::vector<int64_t>> GgufFile::integers(const std::string& key) const {
  const Value* value = find(key, /*array=*/true);
  if (!value) return {};
  Cursor cursor(file_, value->offset);
  std::vector<int64_t> list;
  list.reserve(static_cast<size_t>(*value->count));
  for (int64_t i = 0; i < *value->count; ++i)
    list.push_back(take_integer(cursor, value->type, key));
  return list;
}

int64_t GgufFile::take_integer(Cursor& cursor, uint32_t type, const std::string& key) const {
  switch (type) {
    case kU8:
      return cursor.take<uint8_t>();
    case kI8:
      return cursor.take<int8_t>();
    case kU16:
      return cursor.take<uint16_t>();
    case kI16:
      return cursor.take<int16_t>();
    case kU32:
      return cursor.take<uint32_t>();
    case kI32:
      return cursor.take<int32_t>();
    case kU64:
      return cursor.take_count();
    case kI64:
      return cursor.take<int64_t>();
    default:
      throw Error::refused("not a whole number", place(key));
  }
}

std::optional<std::vector<std::string>> GgufFile::texts(const std::string& key) const {
  const Value* value = find(key, /*array=*/true);
  if (!value) return {};
  if (value->type != kString) throw Error::refused("not a list of texts", place(key));
  Cursor cursor(file_, value->offset);
  std::vector<std::string> list;
  list.reserve(static_cast<size_t>(*value->count));
  for (int64_t i = 0; i < *value->count; ++i) list.push_back(cursor.take_text(kMaxTextBytes));
  return list;
}

Tensor GgufFile::read(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error::refused("no tensor \"" + name + "\"", path().string());
  const GgufTensor& tensor = found->second;
  Tensor result(DType::bf16, tensor.shape);
  const auto out = result.as<bf16>();
  constexpr int64_t kChunkBlocks = 4096;
  const int64_t blocks = tensor.bytes / tensor.type->block_bytes;
  std::vector<std::byte> bytes;
  std::vector<float> values;
  for (int64_t begin = 0; begin < blocks; begin += kChunkBlocks) {
    const int64_t count = std::min(kChunkBlocks, blocks - begin);
    bytes.resize(static_cast<size_t>(count * tensor.type->block_bytes));
    values.resize(static_cast<size_t>(count * tensor.type->block_elements));
    file_.read(tensor.offset + begin * tensor.type->block_bytes, bytes);
    dequantize_gguf(*tensor.type, bytes, values);
    bf16* to = out.data() + begin * tensor.type->block_elements;
    for (size_t i = 0; i < values.size(); ++i) to[i] = to_bf16(values[i]);
  }
  return result;
}

}  // namespace narrow::checkpoint
