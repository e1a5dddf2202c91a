#include "evaluate/python_random.h"

#include <bit>
#include <cmath>
#include <set>

namespace narrow::evaluate {

// MT19937, seeded as init_by_array does with the one-element key that a small integer gives.
PythonRandom::PythonRandom(uint32_t seed) {
  state_[0] = 19650218u;
  for (uint32_t i = 1; i < 624; ++i)
    state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  uint32_t i = 1;
  for (int k = 0; k < 624; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525u)) + seed;
    if (++i >= 624) {
      state_[0] = state_[623];
      i = 1;
    }
  }
  for (int k = 0; k < 623; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941u)) - i;
    if (++i >= 624) {
      state_[0] = state_[623];
      i = 1;
    }
  }
  state_[0] = 0x80000000u;
}

uint32_t PythonRandom::next() {
  if (index_ >= 624) {
    for (size_t k = 0; k < 624; ++k) {
      const uint32_t y = (state_[k] & 0x80000000u) | (state_[(k + 1) % 624] & 0x7fffffffu);
      state_[k] = state_[(k + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0u);
    }
    index_ = 0;
  }
  uint32_t y = state_[static_cast<size_t>(index_++)];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

double PythonRandom::random() {
  const uint32_t a = next() >> 5, b = next() >> 6;
  return (a * 67108864.0 + b) * (1.0 / 9007199254740992.0);
}

uint32_t PythonRandom::bits(int count) { return next() >> (32 - count); }

int64_t PythonRandom::below(int64_t bound) {
  const int width = std::bit_width(static_cast<uint64_t>(bound));
  int64_t value = bits(width);
  while (value >= bound) value = bits(width);
  return value;
}

std::vector<int64_t> PythonRandom::sample(int64_t population, int64_t count) {
  // CPython picks between a shrinking pool and a set of what was taken by this size.
  double pool_limit = 21;
  if (count > 5)
    pool_limit +=
        std::pow(4.0, std::ceil(std::log(static_cast<double>(count) * 3) / std::log(4.0)));
  std::vector<int64_t> result;
  if (static_cast<double>(population) <= pool_limit) {
    std::vector<int64_t> pool(static_cast<size_t>(population));
    for (int64_t i = 0; i < population; ++i) pool[static_cast<size_t>(i)] = i;
    for (int64_t i = 0; i < count; ++i) {
      const auto j = static_cast<size_t>(below(population - i));
      result.push_back(pool[j]);
      pool[j] = pool[static_cast<size_t>(population - i - 1)];
    }
    return result;
  }
  std::set<int64_t> taken;
  for (int64_t i = 0; i < count; ++i) {
    int64_t j = below(population);
    while (!taken.insert(j).second) j = below(population);
    result.push_back(j);
  }
  return result;
}

}  // namespace narrow::evaluate
