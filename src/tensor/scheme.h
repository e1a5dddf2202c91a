// How one linear layer is represented. A Scheme is one-to-one with a compressed-tensors
// `config_groups` entry; a named Scheme is a format ("w8a8-fp"). Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace narrow {

// One compressed-tensors argument object: how one operand is quantized.
struct QuantArgs {
  enum class Type { integer, floating };
  enum class Strategy { tensor, channel, group, token };
  // Order in which GPTQ visited the columns; `group` stores weight_g_idx, the others do not.
  enum class ActOrder { none, weight, group };

  int bits = 8;
  Type type = Type::integer;
  bool symmetric = true;
  Strategy strategy = Strategy::channel;
  int64_t group_size = 0;  // columns that share a scale; only for Strategy::group
  bool dynamic = false;    // scale taken from the data at run time (activations)
  ActOrder actorder = ActOrder::none;
  std::string observer = "minmax";

  bool operator==(const QuantArgs&) const = default;
};

struct Scheme {
  std::optional<QuantArgs> weights;  // none: stored as is (bf16, f16, f32)
  std::optional<QuantArgs> inputs;   // none: activations are not quantized

  bool dense() const { return !weights; }
  bool operator==(const Scheme&) const = default;
};

// The schemes of the study by name: "bf16", "w8a8-fp", "w8a8-int", "w4a16-int" (symmetric,
// group_size), "w4a16-awq" (asymmetric, group_size). Throws Error::refused for other names.
Scheme scheme_of_format(std::string_view format, int64_t group_size = 128);

// Bits a weight takes on disk, scales and zero points included: 4.25 for bf16-scaled group 64.
double bits_per_weight(const Scheme& scheme, int64_t in);

}  // namespace narrow
