// Arithmetic on sizes that come from outside. Every product and sum of numbers read from a file
// goes through these: a result that does not fit is an Error, never a wrapped value.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "base/error.h"

namespace narrow {

// `where` names the file and field for the message.
inline int64_t checked_add(int64_t a, int64_t b, const std::string& where) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) throw Error::refused("size overflows 64 bits", where);
  return sum;
}

inline int64_t checked_mul(int64_t a, int64_t b, const std::string& where) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error::refused("size overflows 64 bits", where);
  return product;
}

// Product of all dimensions; refuses negative ones. The empty shape has one element.
inline int64_t checked_elements(std::span<const int64_t> shape, const std::string& where) {
  int64_t count = 1;
  for (int64_t dim : shape) {
    if (dim < 0) throw Error::refused("negative dimension", where);
    count = checked_mul(count, dim, where);
  }
  return count;
}

inline int64_t checked_from_u64(uint64_t value, const std::string& where) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    throw Error::refused("number exceeds 63 bits", where);
  return static_cast<int64_t>(value);
}

}  // namespace narrow
