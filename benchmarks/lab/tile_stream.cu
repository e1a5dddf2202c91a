// How fast all processors stream a matrix of weights into shared memory, by the way the copy engine
// is asked (docs/performance/products.md; no result to check, as nobody reads the stages): boxes of
// a tensor map with each promotion to the second-level cache, or plain copies of as many bytes that
// lie together. A block takes tiles of rows in turns, each through a ring of stages.
//
//   tile_stream
#include "tile_stream.cuh"

#include <array>
#include <cstdio>

namespace {

using namespace narrow::ops::cuda;

void measure(const uint8_t* bytes, int rows, int atoms, int blocks_of_processor) {
  constexpr std::array<const char*, 5> kWays = {"promotion to none", "promotion to 64",
                                                "promotion to 128", "promotion to 256",
                                                "plain copies"};
  for (size_t way = 0; way < kWays.size(); ++way) {
    const bool plain = way + 1 == kWays.size();
    const double rate = stream_rate(bytes, rows, atoms, blocks_of_processor,
                                    static_cast<CUtensorMapL2promotion>(plain ? 0 : way), plain);
    std::printf("%3d rows x %4d bytes, %d blocks a processor, %-17s %.2f TB/s\n", rows,
                atoms * kAtomBytes, blocks_of_processor, kWays[way], rate / 1e12);
  }
}

}  // namespace

int main() try {
  const DeviceMemory bytes(kBytes);
  check(cudaMemset(bytes.as<uint8_t>(), 0, kBytes), "cudaMemset");
  measure(bytes.as<uint8_t>(), 32, 4, 1);
  measure(bytes.as<uint8_t>(), 32, 2, 1);
  measure(bytes.as<uint8_t>(), 8, 8, 1);
  measure(bytes.as<uint8_t>(), 128, 1, 2);
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "tile_stream: %s\n", error.what());
  return error.exit_status();
}
