#include "checkpoint/checkpoint.h"

#include <cmath>

#include "base/checked.h"
#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/hf_checkpoint.h"

namespace narrow::checkpoint {
namespace {

// Reads the tensors of one module and refuses what does not fit the scheme.
class LinearReader {
 public:
  LinearReader(const Checkpoint& checkpoint, const std::string& module)
      : checkpoint_(checkpoint), module_(module) {
    linear_.scheme = checkpoint.scheme(module);
  }

  PackedLinear read() {
    if (linear_.scheme.dense()) {
      read_dense();
    } else if (linear_.scheme.weights->type == QuantArgs::Type::floating) {
      read_floating();
      read_scale();
    } else {
      read_integer();
      read_scale();
      read_zero_point();
      read_group_index();
    }
    if (has("input_scale")) read_input_scale();
    if (has("bias")) {
      linear_.bias = take("bias");
      require_shape("bias", linear_.bias, {linear_.out});
    }
    return std::move(linear_);
  }

 private:
  const QuantArgs& args() const { return *linear_.scheme.weights; }
  std::string name(const char* tensor) const { return module_ + "." + tensor; }
  bool has(const char* tensor) const { return checkpoint_.contains(name(tensor)); }
  Tensor take(const char* tensor) const { return checkpoint_.read(name(tensor)); }

  [[noreturn]] void refuse(const char* tensor, const std::string& what) const {
    throw Error::refused(what, checkpoint_.path().string() + ": tensor " + name(tensor));
  }
  void require_shape(const char* tensor, const Tensor& value,
                     const std::vector<int64_t>& shape) const {
    if (value.shape() != shape)
      refuse(tensor, "shape " + to_string(value.shape()) + ", expected " + to_string(shape));
  }
  void take_sizes(const char* tensor, int64_t out, int64_t in) {
    if (out < 1 || in < 1) refuse(tensor, "an empty matrix");
    linear_.out = out;
    linear_.in = in;
  }
  void require_matrix(const char* tensor, const Tensor& value) const {
    if (value.shape().size() != 2) refuse(tensor, "not a matrix: " + to_string(value.shape()));
  }

  void read_dense() {
    linear_.weight = take("weight");
    require_matrix("weight", linear_.weight);
    take_sizes("weight", linear_.weight.dim(0), linear_.weight.dim(1));
    const DType dtype = linear_.weight.dtype();
    if (dtype != DType::bf16 && dtype != DType::f16 && dtype != DType::f32)
      refuse("weight", std::string(name_of(dtype)) + ", but config.json does not quantize it");
  }

  void read_floating() {
    linear_.weight = take("weight");
    require_matrix("weight", linear_.weight);
    take_sizes("weight", linear_.weight.dim(0), linear_.weight.dim(1));
    if (linear_.weight.dtype() != DType::f8_e4m3)
      refuse("weight", std::string(name_of(linear_.weight.dtype())) +
                           ", expected f8_e4m3 (is the checkpoint compressed?)");
  }

  void read_integer() {
    if (has("weight_packed")) {
      read_packed();
    } else {
      linear_.weight = take("weight");
      require_matrix("weight", linear_.weight);
      take_sizes("weight", linear_.weight.dim(0), linear_.weight.dim(1));
      if (linear_.weight.dtype() != DType::i8)
        refuse("weight", std::string(name_of(linear_.weight.dtype())) +
                             ", expected i8 (is the checkpoint compressed?)");
      check_code_range();
    }
    // One storage per scheme whatever the file chose (tensor/packed_linear.h).
    const bool as_bytes = args().bits == 8 && linear_.scheme.inputs;
    if (as_bytes) {
      linear_.weight = unpack_codes(linear_);
    } else if (linear_.weight.dtype() == DType::i8) {
      linear_.weight = pack_codes(linear_.weight, args().bits);
    }
  }

  void check_code_range() const {
    if (args().bits == 8) return;  // as many as a byte has
    const int limit = 1 << (args().bits - 1);
    for (int8_t code : linear_.weight.as<int8_t>())
      if (code < -limit || code >= limit)
        refuse("weight", "code " + std::to_string(code) + " does not fit " +
                             std::to_string(args().bits) + " bits");
  }

  void read_packed() {
    linear_.weight = take("weight_packed");
    require_matrix("weight_packed", linear_.weight);
    if (linear_.weight.dtype() != DType::i32) refuse("weight_packed", "not i32");
    const Tensor shape = take("weight_shape");
    require_shape("weight_shape", shape, {2});
    if (shape.dtype() == DType::i64) {
      take_sizes("weight_shape", shape.as<int64_t>()[0], shape.as<int64_t>()[1]);
    } else if (shape.dtype() == DType::i32) {
      take_sizes("weight_shape", shape.as<int32_t>()[0], shape.as<int32_t>()[1]);
    } else {
      refuse("weight_shape", "neither i64 nor i32");
    }
    const std::string where = checkpoint_.path().string() + ": tensor " + name("weight_shape");
    const int64_t dense = (checked_mul(linear_.in, args().bits, where) + 31) / 32;
    const int64_t per_word = 32 / args().bits;
    const int64_t padded = (linear_.in + per_word - 1) / per_word;
    const int64_t words = linear_.weight.dim(1);
    if (linear_.weight.dim(0) != linear_.out || (words != dense && words != padded))
      refuse("weight_packed", "shape " + to_string(linear_.weight.shape()) + ", expected " +
                                  to_string({linear_.out, dense}));
    // A few odd lengths (40 columns of 3 bits) have the same width both ways: dense is meant then.
    if (words != dense)
      linear_.weight = pack_codes(unpack_padded(linear_.weight, linear_.in), args().bits);
  }

  // Whole elements in each word, the top bits empty: how compressed-tensors before 0.9 packed 3, 5,
  // 6 and 7 bits. words: i32 [rows, ceil(cols / floor(32 / bits))]; returns i8 [rows, cols].
  Tensor unpack_padded(const Tensor& words, int64_t cols) const {
    const int bits = args().bits, per_word = 32 / bits;
    const uint32_t mask = (1u << bits) - 1;
    Tensor codes(DType::i8, {words.dim(0), cols});
    for (int64_t r = 0; r < words.dim(0); ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const auto word = static_cast<uint32_t>(words.matrix<int32_t>()(r, c / per_word));
        const uint32_t value = (word >> (c % per_word * bits)) & mask;
        codes.matrix<int8_t>()(r, c) =
            static_cast<int8_t>(static_cast<int>(value) - (1 << (bits - 1)));
      }
    }
    return codes;
  }

  int64_t groups() const {
    return args().strategy == QuantArgs::Strategy::group
               ? (linear_.in + args().group_size - 1) / args().group_size
               : 1;
  }

  void read_scale() {
    Tensor scale = take("weight_scale");
    const DType dtype = scale.dtype();
    if (dtype != DType::bf16 && dtype != DType::f16 && dtype != DType::f32)
      refuse("weight_scale", "dtype " + std::string(name_of(dtype)));
    if (args().strategy == QuantArgs::Strategy::tensor) {
      if (scale.elements() != 1) refuse("weight_scale", "one number expected for a tensor");
      scale = scale.reshaped({1});
    } else {
      if (scale.shape() == std::vector<int64_t>{linear_.out} && groups() == 1)
        scale = scale.reshaped({linear_.out, 1});
      require_shape("weight_scale", scale, {linear_.out, groups()});
    }
    const Tensor values = scale.to(DType::f32);
    for (float value : values.as<float>())
      if (!std::isfinite(value)) refuse("weight_scale", "a scale is not finite");
    linear_.scale = scale;
  }

  // Packed along rows in new files, plain i8 in old ones, which leave it out when all zero.
  void read_zero_point() {
    if (!has("weight_zero_point")) return;
    Tensor points = take("weight_zero_point");
    const int64_t rows = args().strategy == QuantArgs::Strategy::tensor ? 1 : linear_.out;
    if (points.dtype() == DType::i32) {
      require_matrix("weight_zero_point", points);
      points = unpack_rows(points, rows);
    }
    if (points.dtype() != DType::i8)
      refuse("weight_zero_point", "dtype " + std::string(name_of(points.dtype())));
    if (points.elements() != rows * groups())
      refuse("weight_zero_point",
             "shape " + to_string(points.shape()) + ", expected " + to_string({rows, groups()}));
    const auto values = points.as<int8_t>();
    bool all_zero = true;
    for (int8_t value : values) all_zero = all_zero && value == 0;
    if (args().symmetric && !all_zero)
      refuse("weight_zero_point", "not zero in a symmetric scheme");
    if (!args().symmetric) linear_.zero_point = points.reshaped({rows, groups()});
  }

  // words: i32 [ceil(rows * bits / 32) or the padded count, columns]; returns i8 [rows, columns].
  Tensor unpack_rows(const Tensor& words, int64_t rows) const {
    const int bits = args().bits;
    const int64_t dense = (rows * bits + 31) / 32, columns = words.dim(1);
    const int64_t per_word = 32 / bits, padded = (rows + per_word - 1) / per_word;
    if (columns != groups() || (words.dim(0) != dense && words.dim(0) != padded))
      refuse("weight_zero_point",
             "shape " + to_string(words.shape()) + ", expected " + to_string({dense, groups()}));
    Tensor turned(DType::i32, {columns, words.dim(0)});
    for (int64_t r = 0; r < words.dim(0); ++r)
      for (int64_t c = 0; c < columns; ++c)
        turned.matrix<int32_t>()(c, r) = words.matrix<int32_t>()(r, c);
    Tensor codes;
    if (words.dim(0) == dense) {
      PackedLinear as_linear;
      as_linear.scheme = linear_.scheme;
      as_linear.out = columns;
      as_linear.in = rows;
      as_linear.weight = turned;
      codes = unpack_codes(as_linear);
    } else {
      codes = unpack_padded(turned, rows);
    }
    Tensor result(DType::i8, {rows, columns});
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        result.matrix<int8_t>()(r, c) = codes.matrix<int8_t>()(c, r);
    return result;
  }

  void read_group_index() {
    if (!has("weight_g_idx")) return;
    const Tensor index = take("weight_g_idx");
    require_shape("weight_g_idx", index, {linear_.in});
    if (index.dtype() != DType::i32) refuse("weight_g_idx", "not i32");
    int64_t unset = 0;
    for (int32_t group : index.as<int32_t>()) {
      unset += group == -1;
      if (group < -1 || group >= groups())
        refuse("weight_g_idx",
               "group " + std::to_string(group) + " of " + std::to_string(groups()));
    }
    if (unset == linear_.in) return;  // allocated and never filled: columns are in order
    if (unset > 0) refuse("weight_g_idx", "-1 among the groups");
    linear_.group_index = index;
  }

  void read_input_scale() {
    const Tensor scale = take("input_scale");
    if (scale.elements() != 1 || (scale.dtype() != DType::bf16 && scale.dtype() != DType::f16 &&
                                  scale.dtype() != DType::f32))
      refuse("input_scale", "one floating-point number expected");
    linear_.input_scale = scale.to(DType::f32).reshaped({1});
    if (!std::isfinite(linear_.input_scale.as<float>()[0]))
      refuse("input_scale", "the scale is not finite");
  }

  const Checkpoint& checkpoint_;
  const std::string& module_;
  PackedLinear linear_;
};

// What names a format: how the numbers are stored, not how they were chosen.
Scheme without_history(Scheme scheme) {
  for (std::optional<QuantArgs>* args : {&scheme.weights, &scheme.inputs}) {
    if (!*args) continue;
    (*args)->actorder = QuantArgs::ActOrder::none;
    (*args)->observer = QuantArgs{}.observer;
    (*args)->group_size = 0;
  }
  return scheme;
}

}  // namespace

PackedLinear Checkpoint::read_linear(const std::string& module) const {
  PackedLinear linear = LinearReader(*this, module).read();
  const bool fixed_inputs = linear.scheme.inputs && !linear.scheme.inputs->dynamic;
  if (fixed_inputs && linear.input_scale.empty())
    throw Error::refused("the scheme needs it and it is missing",
                         path().string() + ": tensor " + module + ".input_scale");
  return linear;
}

std::string Checkpoint::format() const {
  std::optional<Scheme> common;
  for (int64_t layer = 0; layer < config().layers; ++layer) {
    for (const char* part : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const Scheme here =
          without_history(scheme("model.layers." + std::to_string(layer) + "." + part));
      if (common && *common != here) return "mixed";
      common = here;
    }
  }
  for (const char* name : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"})
    if (common == without_history(scheme_of_format(name))) return name;
  return "mixed";
}

std::unique_ptr<Checkpoint> open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return open_hugging_face(path);
  if (path.extension() == ".gguf") return open_gguf(path);
  throw Error::refused(std::filesystem::exists(path) ? "not a model" : "does not exist",
                       path.string(),
                       "a model is a Hugging Face directory, a .gguf file or a hub name");
}

}  // namespace narrow::checkpoint
