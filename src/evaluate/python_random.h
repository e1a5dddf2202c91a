// Python's random.Random (CPython 3.11): few-shot examples are drawn with it, and a prompt is equal
// to lm-evaluation-harness's only if every draw is. Not to be shared between threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace narrow::evaluate {

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);

  double random();               // [0, 1)
  uint32_t bits(int count);      // getrandbits, 1 … 32 bits
  int64_t below(int64_t bound);  // _randbelow: [0, bound).  REQUIRES: 0 < bound < 2^32
  // Indices that sample(range(population), count) picks, in its order.
  // REQUIRES: 0 <= count <= population.
  std::vector<int64_t> sample(int64_t population, int64_t count);
  // random.shuffle.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[static_cast<std::size_t>(below(static_cast<int64_t>(i)))]);
  }

 private:
  uint32_t next();
  std::array<uint32_t, 624> state_;
  int index_ = 624;
};

}  // namespace narrow::evaluate
