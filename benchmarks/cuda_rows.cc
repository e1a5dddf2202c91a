// Norms, activation functions and quantization between the products of Llama-3.1-8B on the GPU, by
// number of rows. Checks that each row has the bits it has alone and that its values are the
// formula's, then times launches that follow each other on the same rows, as they come out of a
// product.
//
//   cuda_rows [ROWS...]     default: 1 64 256 512 4096
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

#include "arguments.h"
#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/kernels.h"
#include "tensor/dtype.h"

namespace {

using namespace narrow;
using namespace narrow::ops::cuda;

constexpr float kEpsilon = 1e-5f;
constexpr int64_t kWatched = 5;  // rows that are compared

std::vector<bf16> random_rows(int64_t numbers, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<bf16> values(static_cast<size_t>(numbers));
  for (bf16& value : values) value = to_bf16(normal(engine));
  return values;
}

template <class T>
void upload(const DeviceMemory& to, const std::vector<T>& from) {
  check(cudaMemcpy(to.as<void>(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
        "copy");
}

template <class T>
std::vector<T> download(const DeviceMemory& from, int64_t at, int64_t count) {
  std::vector<T> to(static_cast<size_t>(count));
  check(cudaMemcpy(to.data(), from.as<T>() + at, to.size() * sizeof(T), cudaMemcpyDeviceToHost),
        "copy");
  return to;
}

// An operation on rows of `in` numbers that leaves rows of cols.
struct Operation {
  const char* name;
  int64_t in, cols;
  bool only_codes;
  void (*run)(const __nv_bfloat16* x, const float* gamma, __nv_bfloat16* y, QuantizedRows quantized,
              int64_t rows, int64_t cols, cudaStream_t stream);
  // One row in double.
  void (*formula)(const std::vector<bf16>& x, const std::vector<float>& gamma,
                  std::vector<double>& y);
};

void norm_formula(const std::vector<bf16>& x, const std::vector<float>& gamma,
                  std::vector<double>& y) {
  double squares = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = to_float(x[i]);
    squares += y[i] * y[i];
  }
  for (size_t i = 0; i < y.size(); ++i)
    y[i] *= gamma[i] / std::sqrt(squares / static_cast<double>(y.size()) + kEpsilon);
}

void silu_formula(const std::vector<bf16>& x, const std::vector<float>&, std::vector<double>& y) {
  for (size_t i = 0; i < y.size(); ++i) {
    const double gate = to_float(x[i]);
    y[i] = gate / (1 + std::exp(-gate)) * to_float(x[i + y.size()]);
  }
}

void run_norm(const __nv_bfloat16* x, const float* gamma, __nv_bfloat16* y, QuantizedRows quantized,
              int64_t rows, int64_t cols, cudaStream_t stream) {
  rms_norm(x, gamma, kEpsilon, y, quantized, nullptr, rows, cols, stream);
}

void run_silu(const __nv_bfloat16* x, const float*, __nv_bfloat16* y, QuantizedRows quantized,
              int64_t rows, int64_t cols, cudaStream_t stream) {
  silu_mul(x, y, quantized, rows, cols, stream);
}

void same_formula(const std::vector<bf16>& x, const std::vector<float>&, std::vector<double>& y) {
  for (size_t i = 0; i < y.size(); ++i) y[i] = to_float(x[i]);
}

void run_quantize(const __nv_bfloat16* x, const float*, __nv_bfloat16*, QuantizedRows quantized,
                  int64_t rows, int64_t cols, cudaStream_t stream) {
  quantize_rows(x, quantized, rows, cols, stream);
}

constexpr Operation kOperations[] = {{"norm", 4096, 4096, false, run_norm, norm_formula},
                                     {"silu", 2 * 14336, 14336, false, run_silu, silu_formula},
                                     {"codes", 14336, 14336, true, run_quantize, same_formula},
                                     {"codes", 4096, 4096, true, run_quantize, same_formula}};

void measure(const Operation& operation, Codes kind, int64_t rows, cudaStream_t stream) {
  const int64_t cols = operation.cols, in = operation.in;
  const auto x_host = random_rows(rows * in, 1);
  std::vector<float> gamma_host(static_cast<size_t>(cols));
  for (size_t i = 0; i < gamma_host.size(); ++i) gamma_host[i] = 0.5f + static_cast<float>(i % 7);
  const auto bytes = [](int64_t count, int64_t size) { return static_cast<size_t>(count * size); };
  const DeviceMemory x(bytes(rows * in, 2)), gamma(bytes(cols, 4)), y(bytes(rows * cols, 2)),
      codes(bytes(rows * cols, 1)), scales(bytes(rows, 4));
  upload(x, x_host);
  upload(gamma, gamma_host);
  const auto run = [&](int64_t first, int64_t count) {
    const QuantizedRows to{kind, codes.as<uint8_t>() + first * cols, scales.as<float>() + first,
                           cols};
    operation.run(x.as<__nv_bfloat16>() + first * in, gamma.as<float>(),
                  y.as<__nv_bfloat16>() + first * cols, to, count, cols, stream);
  };
  // What a row leaves: as one of all, then alone.
  const auto left = [&](int64_t r) {
    std::vector<uint8_t> all = download<uint8_t>(codes, r * cols, cols);
    const auto numbers = download<uint8_t>(y, 2 * r * cols, 2 * cols);
    const auto scale = download<uint8_t>(scales, 4 * r, 4);
    all.insert(all.end(), numbers.begin(), numbers.end());
    all.insert(all.end(), scale.begin(), scale.end());
    return all;
  };
  check(cudaMemset(y.as<void>(), 0, bytes(rows * cols, 2)), "set");
  check(cudaMemset(codes.as<void>(), 0, bytes(rows * cols, 1)), "set");
  check(cudaMemset(scales.as<void>(), 0, bytes(rows, 4)), "set");
  run(0, rows);
  check(cudaStreamSynchronize(stream), "a kernel");
  std::vector<int64_t> watched;
  for (int64_t i = 0; i < std::min(rows, kWatched); ++i) watched.push_back(i * 7919 % rows);
  std::vector<std::vector<uint8_t>> together;
  for (const int64_t r : watched) together.push_back(left(r));
  int64_t different = 0;
  double worst = 0;
  for (size_t i = 0; i < watched.size(); ++i) {
    const int64_t r = watched[i];
    run(r, 1);
    check(cudaStreamSynchronize(stream), "a kernel");
    different += left(r) != together[i];
    const std::vector<bf16> row(x_host.begin() + r * in, x_host.begin() + (r + 1) * in);
    std::vector<double> expected(static_cast<size_t>(cols));
    operation.formula(row, gamma_host, expected);
    double largest = 0, error = 0;
    const auto got = download<bf16>(y, r * cols, cols);
    const auto code = download<uint8_t>(codes, r * cols, cols);
    const float scale = download<float>(scales, r, 1)[0];
    for (size_t c = 0; c < expected.size(); ++c) {
      double value = to_float(got[c]);
      if (kind == Codes::int8) value = static_cast<double>(static_cast<int8_t>(code[c])) * scale;
      if (kind == Codes::fp8) value = static_cast<double>(to_float(f8_e4m3{code[c]})) * scale;
      largest = std::max(largest, std::fabs(expected[c]));
      error = std::max(error, std::fabs(value - expected[c]));
    }
    worst = std::max(worst, error / largest);
  }
  const double microseconds = time_of([&](int) { run(0, rows); }, 200, stream);
  const double moved = static_cast<double>(rows * in * 2) +
                       static_cast<double>(rows * cols * (kind == Codes::none ? 2 : 1));
  constexpr const char* kKinds[] = {"bf16", "int8", "e4m3"};
  std::cout << fmt::format(
      "{:<5} of {:>5} {:<5} rows {:>5}  {:>8.2f} us  {:>5.2f} TB/s  error {:.1e}  {} of {} rows "
      "differ\n",
      operation.name, cols, kKinds[static_cast<int>(kind)], rows, microseconds,
      moved / microseconds / 1e6, worst, different, watched.size());
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<int64_t> rows_list;
  for (int i = 1; i < argc; ++i) rows_list.push_back(benchmarks::count_of(argv[i]));
  if (rows_list.empty()) rows_list = {1, 64, 256, 512, 4096};
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  std::cout << properties.name << "\n";
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "stream");
  for (const Operation& operation : kOperations)
    for (const Codes kind : {Codes::none, Codes::int8, Codes::fp8})
      if (kind != Codes::none || !operation.only_codes)
        for (const int64_t rows : rows_list) measure(operation, kind, rows, stream);
  cudaStreamDestroy(stream);
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "cuda_rows: " << error.what() << "\n";
  return error.exit_status();
}
