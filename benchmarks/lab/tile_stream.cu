// How fast all processors stream a matrix of weights into shared memory, by the way the copy engine
// is asked (docs/performance/products.md; no result to check, as nobody reads the stages): boxes of
// a tensor map with each promotion to the second-level cache, or plain copies of as many bytes that
// lie together. A block takes tiles of rows in turns, each through a ring of stages.
//
//   tile_stream
#include "tile_stream.h"

#include <cstdio>
#include <string>

#include "base/error.h"

namespace {

using namespace narrow::benchmarks;

void measure(StreamWay way) {
  const auto report = [&](const std::string& name) {
    std::printf("%3d rows x %4d bytes, %d blocks a processor, %-16s %.2f TB/s\n", way.rows,
                way.atoms * 128, way.blocks_of_processor, name.c_str(), stream_rate(way) / 1e12);
  };
  for (const int promotion : {0, 64, 128, 256}) {
    way.promotion = promotion;
    report("promotion to " + std::to_string(promotion));
  }
  way.plain = true;
  report("plain copies");
}

}  // namespace

int main() try {
  for (const StreamWay& way : {StreamWay{32, 4, 1}, {32, 2, 1}, {8, 8, 1}, {128, 1, 2}})
    measure(way);
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "tile_stream: %s\n", error.what());
  return error.exit_status();
}
