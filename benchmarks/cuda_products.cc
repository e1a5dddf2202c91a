// Matrix products of Llama-3.1-8B's layers on the GPU: every kernel that could compute one, by
// number of rows. Checks each against a product in double on samples of the output, then times it
// with events around launches that follow each other on weights that no cache still holds. "gemm"
// and "skinny" are Hopper's own, "portable" those of other devices (fp8w: e4m3 weights, bf16
// inputs); "adds" is gemm adding to what is there, as o and down do in a model, "gated" gate_up
// with the activation behind it.
//
//   cuda_products [bf16|int8|fp8|fp8w|int4]... [ROWS...]     default: all, 1 16 64 160 512 4096
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "arguments.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "device_timing.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/error.h"
#include "ops/cuda/int4_layout.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/portable.h"

namespace {

using namespace narrow;
using namespace narrow::ops::cuda;

struct Shape {
  const char* name;
  int64_t out, in;
};
constexpr Shape kShapes[] = {
    {"qkv", 6144, 4096}, {"o", 4096, 4096}, {"gate_up", 28672, 4096}, {"down", 4096, 14336}};

// What becomes of a product.
enum class Result { written, added, gated };

double silu(double value) { return value / (1 + std::exp(-value)); }

enum class Type { bf16, int8, fp8, fp8_weights, int4 };
constexpr const char* kNames[] = {"bf16", "int8", "fp8", "fp8w", "int4"};
constexpr int64_t kGroup = 128;  // of 4-bit weights

// Of x.
Type input_of(Type type) {
  return type == Type::int4 || type == Type::fp8_weights ? Type::bf16 : type;
}
bool is_e4m3(Type type) { return type == Type::fp8 || type == Type::fp8_weights; }

// Random elements of a type in bytes, and what they stand for.
std::vector<uint8_t> random_bytes(Type type, int64_t elements, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(elements * (type == Type::bf16 ? 2 : 1)));
  if (type == Type::bf16) {
    auto* to = reinterpret_cast<uint16_t*>(bytes.data());
    for (int64_t i = 0; i < elements; ++i)
      to[i] = static_cast<uint16_t>((engine() & 0x80ff) | 0x3e80);  // ± 0.25 … 1
  } else {
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(engine());
      if (is_e4m3(type)) byte &= 0xbf;  // magnitudes below 2
    }
  }
  return bytes;
}

double value_of(Type type, const std::vector<uint8_t>& bytes, int64_t i) {
  if (type == Type::int8) return static_cast<int8_t>(bytes[static_cast<size_t>(i)]);
  if (is_e4m3(type)) {
    __nv_fp8_e4m3 value;
    value.__x = bytes[static_cast<size_t>(i)];
    return static_cast<float>(value);
  }
  uint16_t half;
  std::memcpy(&half, bytes.data() + 2 * i, 2);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Random weights as the device stores them, and their values [out, in].
struct Weights {
  std::vector<uint8_t> bytes;
  std::vector<float> values;
  std::vector<float> scale;  // of outputs
};

Weights random_int4(const Shape& shape, ThreadPool& pool) {
  PackedLinear linear;
  linear.out = shape.out;
  linear.in = shape.in;
  linear.scheme = scheme_of_format("w4a16-int", kGroup);
  std::mt19937 engine(1);
  linear.weight = Tensor(DType::i32, {shape.out, shape.in / 8});
  for (int32_t& word : linear.weight.as<int32_t>()) word = static_cast<int32_t>(engine());
  linear.scale = Tensor(DType::bf16, {shape.out, shape.in / kGroup});
  for (bf16& scale : linear.scale.as<bf16>())
    scale.bits = static_cast<uint16_t>((engine() & 0xff) | 0x3b00);  // 0.002 … 0.008
  const Int4Layout layout = make_int4_layout(linear, pool);
  Weights result;
  result.bytes.resize(static_cast<size_t>(layout.chunks.size_bytes()));
  std::memcpy(result.bytes.data(), layout.chunks.data(), result.bytes.size());
  result.scale = layout.factors;
  const Tensor values = dequantize(linear);
  result.values.assign(values.as<float>().begin(), values.as<float>().end());
  return result;
}

Weights random_weights(Type type, const Shape& shape, ThreadPool& pool) {
  if (type == Type::int4) return random_int4(shape, pool);
  Weights result;
  result.bytes = random_bytes(type, shape.out * shape.in, 1);
  result.values.resize(static_cast<size_t>(shape.out * shape.in));
  pool.parallel_for(shape.out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * shape.in; i < end * shape.in; ++i)
      result.values[static_cast<size_t>(i)] = static_cast<float>(value_of(type, result.bytes, i));
  });
  return result;
}

void measure(Type type, const Shape& shape, const std::vector<int64_t>& rows_list,
             ThreadPool& pool) {
  const bool hopper = compute_capability() == 90;
  const int64_t element = input_of(type) == Type::bf16 ? 2 : 1;  // of x
  const Weights weight_host = random_weights(type, shape, pool);
  const auto weight_bytes = static_cast<int64_t>(weight_host.bytes.size());
  // Enough copies that a weight has left the 50 MB cache when its turn comes again.
  const int64_t copies = std::max<int64_t>(2, 200'000'000 / weight_bytes);
  const DeviceMemory weights(static_cast<size_t>(weight_bytes * copies));
  for (int64_t c = 0; c < copies; ++c)
    check(cudaMemcpy(weights.as<uint8_t>() + c * weight_bytes, weight_host.bytes.data(),
                     weight_host.bytes.size(), cudaMemcpyHostToDevice),
          "copy");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "stream");
  for (const int64_t rows : rows_list) {
    const auto x_host = random_bytes(input_of(type), rows * shape.in, 2);
    const DeviceMemory x(x_host.size()), y(static_cast<size_t>(rows * shape.out * 4));
    check(cudaMemcpy(x.as<void>(), x_host.data(), x_host.size(), cudaMemcpyHostToDevice), "copy");
    const std::vector<float> ones(static_cast<size_t>(std::max(rows, shape.out)), 1.0f);
    const DeviceMemory scales(ones.size() * 4), int4_scale(weight_host.scale.size() * 4 + 4);
    check(cudaMemcpy(int4_scale.as<void>(), weight_host.scale.data(), weight_host.scale.size() * 4,
                     cudaMemcpyHostToDevice),
          "copy");
    check(cudaMemcpy(scales.as<void>(), ones.data(), ones.size() * 4, cudaMemcpyHostToDevice),
          "copy");

    const auto run_kernels = [&](bool portable, Result result, const uint8_t* w, bool f32) {
      const bool gated = result == Result::gated;
      const int64_t out = gated ? shape.out / 2 : shape.out;
      const Output to{y.as<void>(), f32, out, nullptr, result == Result::added};
      if (type == Type::int4)
        return (portable ? portable_int4
                : gated  ? gated_int4
                         : gemm_int4)({w, int4_scale.as<float>(), kGroup, false}, out, shape.in,
                                     x.as<__nv_bfloat16>(), rows, to, stream);
      Gemm gemm;
      gemm.weight = w;
      gemm.x = x.as<void>();
      gemm.row_scale = gemm.column_scale = scales.as<float>();
      gemm.rows = rows;
      gemm.out = out;
      gemm.gated = gated;
      gemm.w_rows = shape.out;
      gemm.in = shape.in;
      gemm.x_stride = shape.in * element;
      gemm.w_stride = weight_bytes / shape.out;
      gemm.y = to;
      if (type == Type::bf16) return (portable ? portable_bf16 : gemm_bf16)(gemm, stream);
      if (type == Type::int8) return (portable ? portable_int8 : gemm_int8)(gemm, stream);
      if (type == Type::fp8) return gemm_fp8(gemm, stream);
      portable_fp8(gemm, stream);
    };
    const auto with = [&](bool portable, Result result) {
      return [&run_kernels, portable, result](const uint8_t* w, bool f32) {
        run_kernels(portable, result, w, f32);
      };
    };
    const auto run_skinny = [&](const uint8_t* w, bool f32) {
      skinny_bf16(reinterpret_cast<const __nv_bfloat16*>(w), shape.out, shape.in,
                  x.as<__nv_bfloat16>(), rows, {y.as<void>(), f32, shape.out, nullptr}, stream);
    };

    // An output, and the root of the sum of the squares of the products that it is a sum of.
    const auto expected_of = [&](int64_t r, int64_t n) {
      double sum = 0, squares = 0;
      for (int64_t k = 0; k < shape.in; ++k) {
        const double product = value_of(input_of(type), x_host, r * shape.in + k) *
                               weight_host.values[static_cast<size_t>(n * shape.in + k)];
        sum += product;
        squares += product * product;
      }
      return std::pair(sum, std::sqrt(squares));
    };
    const auto worst = [&](const auto& run, Result result) {
      const bool gated = result == Result::gated, f32 = result == Result::written;
      // What is added to, 0x4141 or 0x4848 as bf16: of about the size of the sums.
      const int before = result != Result::added ? 0 : type == Type::int8 ? 0x48 : 0x41;
      check(cudaMemset(y.as<void>(), before, static_cast<size_t>(rows * shape.out * 4)), "filling");
      const double added = value_of(Type::bf16, std::vector<uint8_t>(2, before), 0);
      run(weights.as<uint8_t>(), f32);
      check(cudaStreamSynchronize(stream), "a kernel");
      const int64_t out = gated ? shape.out / 2 : shape.out;
      std::vector<uint8_t> got(static_cast<size_t>(rows * out * (f32 ? 4 : 2)));
      check(cudaMemcpy(got.data(), y.as<void>(), got.size(), cudaMemcpyDeviceToHost), "copy");
      double largest = 0;
      for (int64_t sample = 0; sample < 200; ++sample) {
        const int64_t r = sample * 7919 % rows, n = sample * 104729 % out;
        auto [expected, magnitude] = expected_of(r, n);
        if (gated) {
          const auto [up, magnitude_of_up] = expected_of(r, n + out);
          expected = silu(expected) * up;
          magnitude *= magnitude_of_up;
        }
        expected += added;
        const double value = f32 ? reinterpret_cast<const float*>(got.data())[r * out + n]
                                 : value_of(Type::bf16, got, r * out + n);
        largest = std::max(largest, std::fabs(value - expected) / magnitude);
      }
      return largest;
    };
    const auto report = [&](const char* name, const auto& run, Result result = Result::written) {
      const double error = worst(run, result);
      const double microseconds =
          time_of([&](int i) { run(weights.as<uint8_t>() + i % copies * weight_bytes, false); },
                  rows > 1000 ? 20 : 100, stream);
      const int64_t bytes_of_y = shape.out * (result == Result::gated   ? 1
                                              : result == Result::added ? 4
                                                                        : 2);
      const double bytes = static_cast<double>(weight_bytes) +
                           static_cast<double>(rows * (shape.in * element + bytes_of_y));
      const double operations =
          2.0 * static_cast<double>(rows * shape.out) * static_cast<double>(shape.in);
      std::cout << fmt::format(
          "{:<5} {:<8} rows {:>5}  {:<8} {:>9.1f} us  {:>5.2f} TB/s  {:>6.0f} T/s  error {:.1e}\n",
          kNames[static_cast<int>(type)], shape.name, rows, name, microseconds,
          bytes / microseconds / 1e6, operations / microseconds / 1e6, error);
    };
    const bool is_gate_up = std::string_view(shape.name) == "gate_up";
    if (hopper && type != Type::fp8_weights) {
      report("gemm", with(false, Result::written));
      if (is_gate_up && (type != Type::int4 || rows > kFewInt4Rows))
        report("gated", with(false, Result::gated), Result::gated);
      if (shape.out == 4096) report("adds", with(false, Result::added), Result::added);
    }
    if (type != Type::fp8) report("portable", with(true, Result::written));
    if (type == Type::bf16 && rows <= 64) report("skinny", run_skinny);
  }
  cudaStreamDestroy(stream);
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<int64_t> rows;
  std::vector<Type> types;
  for (int i = 1; i < argc; ++i) {
    const auto name = std::find(std::begin(kNames), std::end(kNames), std::string_view(argv[i]));
    if (name != std::end(kNames)) {
      types.push_back(static_cast<Type>(name - std::begin(kNames)));
    } else if (*argv[i] >= '0' && *argv[i] <= '9') {
      rows.push_back(benchmarks::count_of(argv[i]));
    } else {
      throw Error::refused(fmt::format("\"{}\" is neither a number of rows nor one of {}", argv[i],
                                       fmt::join(kNames, ", ")));
    }
  }
  if (rows.empty()) rows = {1, 16, 64, 160, 512, 4096};
  if (types.empty()) types = {Type::bf16, Type::int8, Type::fp8, Type::fp8_weights, Type::int4};
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  std::cout << properties.name << "\n";
  ThreadPool pool(0);
  for (const Type type : types)
    for (const Shape& shape : kShapes) measure(type, shape, rows, pool);
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "cuda_products: " << error.what() << "\n";
  return error.exit_status();
}
