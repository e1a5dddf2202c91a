// How the blocks of the kernel of whole layers (row_layers.cuh) tell each other rows of bf16. There
// is no barrier of all blocks: a word of two numbers is there once it is not kAbsent, which no
// conversion to bf16 makes (a NaN becomes 0x7fff). So who waits has the numbers as soon as he knows
// that they are there, one trip to the second-level cache after they were written.
//
// A row has a place in each of three turns, which layers take one after another. Who writes a word
// in one turn empties its place in the next. Nobody still reads what is emptied: every block has
// tiles of gate_up (RowDecoder), so whoever writes anything in layer l has seen, by way of what
// down made in layer l - 1, something from every block behind all that it read in layer l - 2. And
// a place is emptied a whole layer before anyone asks for what comes there. Nothing here is fenced:
// a word says itself whether it is there, and what is read by other means (pieces of attention) has
// fences of its own.
#pragma once

#include "ops/cuda/row_instructions.cuh"
#include "ops/cuda/row_layers.h"

namespace narrow::ops::cuda {

inline constexpr uint32_t kAbsent = 0xffffffffu;

// Of a layer: how many numbers behind the first turn's rows its rows are, and the next layer's.
struct RowTurn {
  int now, next;
};
__device__ inline RowTurn turn_of(const RowLayers& work, uint32_t first, int layer) {
  const uint32_t turn = (first + static_cast<uint32_t>(layer)) % kRowTurns;
  return {static_cast<int>(turn) * work.turn_numbers,
          static_cast<int>((turn + 1) % kRowTurns) * work.turn_numbers};
}

// to: in the first turn, four-byte aligned; eight-byte aligned of two words.
__device__ inline void tell(__nv_bfloat16* to, RowTurn turn, uint32_t word) {
  tell_words(to + turn.now, word);
  tell_words(to + turn.next, kAbsent);
}
__device__ inline void tell(__nv_bfloat16* to, RowTurn turn, uint2 words) {
  tell_words(to + turn.now, words);
  tell_words(to + turn.next, uint2{kAbsent, kAbsent});
}

// What lies there now. from: as aligned as the result.
__device__ inline uint32_t ask_word(const __nv_bfloat16* from) {
  uint32_t word;
  ask_words(from, word);
  return word;
}
__device__ inline uint4 ask_piece(const __nv_bfloat16* from) {
  uint4 piece;
  ask_words(from, piece);
  return piece;
}
__device__ inline bool is_there(const uint4& piece) {
  return piece.x != kAbsent && piece.y != kAbsent && piece.z != kAbsent && piece.w != kAbsent;
}

}  // namespace narrow::ops::cuda
