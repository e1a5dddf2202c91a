// Numbers that the tensor cores multiply, and what they sum them up in.
#pragma once

namespace narrow::ops::cuda {

enum class MmaType { bf16, e4m3, int8 };

template <MmaType type>
struct MmaTraits {
  using Sum = float;
};
template <>
struct MmaTraits<MmaType::int8> {
  using Sum = int;
};

}  // namespace narrow::ops::cuda
