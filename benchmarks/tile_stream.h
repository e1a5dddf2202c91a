// How fast the processors of a GPU read its memory when they ask as products do for weights.
#pragma once

#include <optional>

namespace narrow::benchmarks {

// A stage of a block's ring in shared memory is a box of `rows` rows of `atoms` times 128 bytes of
// a matrix, or as many bytes that lie together.
struct StreamWay {
  int rows = 32, atoms = 4;
  int blocks_of_processor = 1;  // 1 or 2
  int promotion = 128;  // of what is read to so many bytes of the second-level cache: 0, 64,
                        // 128 or 256; of boxes
  bool plain = false;   // no boxes
};

// Bytes a second of one matrix of random bytes. The first GPU must be a Hopper. Throws
// Error::failed.
double stream_rate(const StreamWay& way);

// The same of the way that products go. Null where the first GPU is no Hopper, or programs are
// built without CUDA.
std::optional<double> memory_rate();

}  // namespace narrow::benchmarks
