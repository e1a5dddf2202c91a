#include "tensor/scheme.h"

#include "base/error.h"

namespace narrow {
namespace {

QuantArgs per_channel(QuantArgs::Type type) {
  QuantArgs args;
  args.type = type;
  return args;
}

QuantArgs per_token(QuantArgs::Type type) {
  QuantArgs args;
  args.type = type;
  args.strategy = QuantArgs::Strategy::token;
  args.dynamic = true;
  return args;
}

QuantArgs grouped(int64_t group_size, bool symmetric) {
  if (group_size <= 0) throw Error::refused("the group size must be positive");
  QuantArgs args;
  args.bits = 4;
  args.symmetric = symmetric;
  args.strategy = QuantArgs::Strategy::group;
  args.group_size = group_size;
  return args;
}

}  // namespace

Scheme scheme_of_format(std::string_view format, int64_t group_size) {
  using Type = QuantArgs::Type;
  if (format == "bf16") return {};
  if (format == "w8a8-fp") return {per_channel(Type::floating), per_token(Type::floating)};
  if (format == "w8a8-int") return {per_channel(Type::integer), per_token(Type::integer)};
  if (format == "w4a16-int") return {grouped(group_size, /*symmetric=*/true), std::nullopt};
  if (format == "w4a16-awq") return {grouped(group_size, /*symmetric=*/false), std::nullopt};
  throw Error::refused("unknown format \"" + std::string(format) + "\"", {},
                       "formats: bf16, w8a8-fp, w8a8-int, w4a16-int, w4a16-awq");
}

double bits_per_weight(const Scheme& scheme, int64_t in) {
  constexpr double kScaleBits = 16;
  if (scheme.dense()) return 16;
  const QuantArgs& args = *scheme.weights;
  const bool packed = args.type == QuantArgs::Type::integer && !(args.bits == 8 && scheme.inputs);
  double bits = args.bits;
  if (packed) {
    const int64_t words = (in * args.bits + 31) / 32;
    bits = 32.0 * static_cast<double>(words) / static_cast<double>(in);
  }
  const double zero_point_bits = args.symmetric ? 0 : packed ? args.bits : 8;
  switch (args.strategy) {
    case QuantArgs::Strategy::group:
      return bits + (kScaleBits + zero_point_bits) / static_cast<double>(args.group_size);
    case QuantArgs::Strategy::channel:
      return bits + (kScaleBits + zero_point_bits) / static_cast<double>(in);
    case QuantArgs::Strategy::tensor:
    case QuantArgs::Strategy::token:
      return bits;
  }
  return bits;
}

}  // namespace narrow
