// Arithmetic modulo the prime 2^61 - 31, which is 1 modulo 4, so that -1 has a square root.
#pragma once

#include <cstdint>

namespace narrow::evaluate::math::field {

inline constexpr uint64_t kPrime = (uint64_t{1} << 61) - 31;

// A fixed root of x² = -1.
inline constexpr uint64_t kImaginary = 583529827753931384;

constexpr uint64_t add(uint64_t a, uint64_t b) { return (a + b) % kPrime; }
constexpr uint64_t subtract(uint64_t a, uint64_t b) { return (a + kPrime - b) % kPrime; }
constexpr uint64_t multiply(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b % kPrime);
}
constexpr uint64_t power(uint64_t base, uint64_t exponent) {
  uint64_t result = 1;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result = multiply(result, base);
    base = multiply(base, base);
  }
  return result;
}
// 0 when b is 0: the caller asks before it divides.
constexpr uint64_t divide(uint64_t a, uint64_t b) { return multiply(a, power(b, kPrime - 2)); }

constexpr uint64_t from_integer(int64_t value) {
  return value >= 0 ? static_cast<uint64_t>(value) % kPrime
                    : subtract(0, (uint64_t{0} - static_cast<uint64_t>(value)) % kPrime);
}

static_assert(multiply(kImaginary, kImaginary) == kPrime - 1);

}  // namespace narrow::evaluate::math::field
