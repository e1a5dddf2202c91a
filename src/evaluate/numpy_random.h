// NumPy's legacy generator (numpy.random.seed, RandomState), as far as the originals draw from it.
// Not to be shared between threads.
#pragma once

#include <bit>
#include <cstdint>
#include <random>

namespace narrow::evaluate {

class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : bits_(seed) {}

  // randint(low, high), and choice of an index: bits under a mask until they lie in the range.
  // REQUIRES: 0 < high - low < 2^32.
  int64_t integer(int64_t low, int64_t high) {
    const auto range = static_cast<uint32_t>(high - 1 - low);
    if (range == 0) return low;  // without a draw
    const uint32_t mask = range >= 0x80000000u ? 0xffffffffu : std::bit_ceil(range + 1) - 1;
    uint32_t value = bits_() & mask;
    while (value > range) value = bits_() & mask;
    return low + value;
  }

 private:
  std::mt19937 bits_;  // which NumPy seeds and tempers alike
};

}  // namespace narrow::evaluate
