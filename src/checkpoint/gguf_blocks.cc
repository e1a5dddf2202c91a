#include "checkpoint/gguf_blocks.h"

#include <array>
#include <cassert>
#include <cstring>

#include "tensor/dtype.h"

namespace narrow::checkpoint {
namespace {

constexpr int64_t kSmall = 32;   // elements of a plain block
constexpr int64_t kSuper = 256;  // elements of a "K" super-block

uint8_t byte_at(const std::byte* block, int64_t offset) {
  return std::to_integer<uint8_t>(block[offset]);
}

uint16_t u16_at(const std::byte* block, int64_t offset) {
  return static_cast<uint16_t>(byte_at(block, offset) | byte_at(block, offset + 1) << 8);
}

float half_at(const std::byte* block, int64_t offset) {
  return to_float(f16{u16_at(block, offset)});
}

float read_f32(const std::byte* block) {
  float value;
  std::memcpy(&value, block, sizeof(value));
  return value;
}

// Low nibbles are elements 0..15, high nibbles 16..31.
int nibble(const std::byte* codes, int64_t element) {
  const uint8_t pair = byte_at(codes, element % 16);
  return element < 16 ? pair & 15 : pair >> 4;
}

// Fifth bits: one per element in a 32-bit word.
int fifth_bit(const std::byte* word, int64_t element) {
  return (byte_at(word, element / 8) >> (element % 8)) & 1;
}

void q4_0(const std::byte* block, float* out) {
  const float scale = half_at(block, 0);
  for (int64_t i = 0; i < kSmall; ++i)
    out[i] = scale * static_cast<float>(nibble(block + 2, i) - 8);
}

void q4_1(const std::byte* block, float* out) {
  const float scale = half_at(block, 0), minimum = half_at(block, 2);
  for (int64_t i = 0; i < kSmall; ++i)
    out[i] = scale * static_cast<float>(nibble(block + 4, i)) + minimum;
}

void q5_0(const std::byte* block, float* out) {
  const float scale = half_at(block, 0);
  for (int64_t i = 0; i < kSmall; ++i) {
    const int code = nibble(block + 6, i) | fifth_bit(block + 2, i) << 4;
    out[i] = scale * static_cast<float>(code - 16);
  }
}

void q5_1(const std::byte* block, float* out) {
  const float scale = half_at(block, 0), minimum = half_at(block, 2);
  for (int64_t i = 0; i < kSmall; ++i) {
    const int code = nibble(block + 8, i) | fifth_bit(block + 4, i) << 4;
    out[i] = scale * static_cast<float>(code) + minimum;
  }
}

void q8_0(const std::byte* block, float* out) {
  const float scale = half_at(block, 0);
  for (int64_t i = 0; i < kSmall; ++i)
    out[i] = static_cast<float>(static_cast<int8_t>(byte_at(block, 2 + i))) * scale;
}

// The eight 6-bit scales and minima of Q4_K and Q5_K, packed into 12 bytes: 0..3 whole in the low
// bits of bytes 0..3 and 4..7, 4..7 split between bytes 8..11 and the high bits of bytes 0..7.
struct SubScales {
  std::array<uint8_t, 8> scale, minimum;
};

SubScales sub_scales(const std::byte* packed) {
  SubScales sub;
  for (size_t i = 0; i < 4; ++i) {
    const auto at = static_cast<int64_t>(i);
    const uint8_t d = byte_at(packed, at), m = byte_at(packed, at + 4),
                  both = byte_at(packed, at + 8);
    sub.scale[i] = d & 0x3f;
    sub.minimum[i] = m & 0x3f;
    sub.scale[i + 4] = static_cast<uint8_t>((both & 0x0f) | ((d >> 2) & 0x30));
    sub.minimum[i + 4] = static_cast<uint8_t>((both >> 4) | ((m >> 2) & 0x30));
  }
  return sub;
}

// Q4_K and Q5_K: 64 elements share 32 code bytes, low nibbles first. high_bits: nullptr for Q4_K.
void k_with_minimum(const std::byte* block, const std::byte* high_bits, const std::byte* codes,
                    float* out) {
  const float scale = half_at(block, 0), minimum = half_at(block, 2);
  const SubScales sub = sub_scales(block + 4);
  for (int64_t i = 0; i < kSuper; ++i) {
    const int64_t part = i / 32;
    const uint8_t pair = byte_at(codes, part / 2 * 32 + i % 32);
    int code = part % 2 == 0 ? pair & 15 : pair >> 4;
    if (high_bits) code |= ((byte_at(high_bits, i % 32) >> part) & 1) << 4;
    const auto which = static_cast<size_t>(part);
    const float d = scale * static_cast<float>(sub.scale[which]);
    const float m = minimum * static_cast<float>(sub.minimum[which]);
    out[i] = d * static_cast<float>(code) - m;
  }
}

void q4_k(const std::byte* block, float* out) { k_with_minimum(block, nullptr, block + 16, out); }

void q5_k(const std::byte* block, float* out) {
  k_with_minimum(block, block + 16, block + 48, out);
}

// 128 low-nibble bytes, 64 bytes of two high bits, 16 signed scales of 16 elements each, d.
void q6_k(const std::byte* block, float* out) {
  const std::byte* low = block;
  const std::byte* high = block + 128;
  const std::byte* scales = block + 192;
  const float d = half_at(block, 208);
  for (int64_t i = 0; i < kSuper; ++i) {
    const int64_t half = i / 128, within = i % 128, quarter = within / 32;
    const uint8_t pair = byte_at(low, half * 64 + within % 64);
    const int lower = within < 64 ? pair & 15 : pair >> 4;
    const int upper = (byte_at(high, half * 32 + within % 32) >> (2 * quarter)) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(byte_at(scales, i / 16)));
    out[i] = scale * static_cast<float>((lower | upper << 4) - 32);
  }
}

enum : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

constexpr GgufType kTypes[] = {
    {kF32, "F32", 1, 4},          {kF16, "F16", 1, 2},          {kBF16, "BF16", 1, 2},
    {kQ4_0, "Q4_0", kSmall, 18},  {kQ4_1, "Q4_1", kSmall, 20},  {kQ5_0, "Q5_0", kSmall, 22},
    {kQ5_1, "Q5_1", kSmall, 24},  {kQ8_0, "Q8_0", kSmall, 34},  {kQ4_K, "Q4_K", kSuper, 144},
    {kQ5_K, "Q5_K", kSuper, 176}, {kQ6_K, "Q6_K", kSuper, 210},
};

}  // namespace

const GgufType* find_gguf_type(uint32_t id) {
  for (const GgufType& type : kTypes)
    if (type.id == id) return &type;
  return nullptr;
}

void dequantize_gguf(const GgufType& type, std::span<const std::byte> blocks,
                     std::span<float> out) {
  const auto count = static_cast<int64_t>(blocks.size()) / type.block_bytes;
  assert(count * type.block_elements == static_cast<int64_t>(out.size()));
  const auto each = [&](auto&& decode) {
    for (int64_t b = 0; b < count; ++b)
      decode(blocks.data() + b * type.block_bytes, out.data() + b * type.block_elements);
  };
  switch (type.id) {
    case kF32:
      return each([](const std::byte* block, float* to) { *to = read_f32(block); });
    case kF16:
      return each([](const std::byte* block, float* to) { *to = half_at(block, 0); });
    case kBF16:
      return each(
          [](const std::byte* block, float* to) { *to = to_float(bf16{u16_at(block, 0)}); });
    case kQ4_0:
      return each(q4_0);
    case kQ4_1:
      return each(q4_1);
    case kQ5_0:
      return each(q5_0);
    case kQ5_1:
      return each(q5_1);
    case kQ8_0:
      return each(q8_0);
    case kQ4_K:
      return each(q4_k);
    case kQ5_K:
      return each(q5_k);
    case kQ6_K:
      return each(q6_k);
    default:
      assert(false);
  }
}

}  // namespace narrow::checkpoint
