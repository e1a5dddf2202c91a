// The random numbers of the statistics: xoshiro256** seeded through splitmix64, so that the same
// seed gives the same intervals on every machine (std:: distributions differ between libraries).
#pragma once

#include <cstdint>
#include <string_view>

namespace narrow::analyse {

class Rng {
 public:
  explicit Rng(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15;
      uint64_t mixed = seed;
      mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
      mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
      word = mixed ^ (mixed >> 31);
    }
  }

  uint64_t next() {
    const uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }

  // Uniform in [0, count); the bias, count / 2^64, is beyond any sample.  REQUIRES: count > 0.
  int64_t below(int64_t count) {
    return static_cast<int64_t>((static_cast<unsigned __int128>(next()) * count) >> 64);
  }

  // Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  static uint64_t rotate(uint64_t word, int bits) { return (word << bits) | (word >> (64 - bits)); }
  uint64_t state_[4];
};

// A stream of its own for each named quantity, so that adding a task moves no other's interval.
inline uint64_t seed_for(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325 ^ seed;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace narrow::analyse
