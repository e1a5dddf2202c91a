// What the products of a layer of Llama-3.1-8B at 4096 rows come to in the first milliseconds, and
// what when they go on for seconds and the card's power limit holds the clock down
// (docs/performance.md; no result to check, cuda_products does). Normally distributed
// numbers: others switch fewer or more transistors.
//
//   power_limit [SECONDS]     default: 3
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/kernels.h"

namespace {

using namespace narrow;
using namespace narrow::ops::cuda;
using Clock = std::chrono::steady_clock;

constexpr int64_t kRows = 4096;
struct Shape {
  int64_t out, in;
  bool gated;
};
constexpr Shape kShapes[] = {
    {6144, 4096, false}, {4096, 4096, false}, {14336, 4096, true}, {4096, 14336, false}};

// The driver's readings of device 0 (NVML, which CUDA's headers do not declare).
class Readings {
 public:
  Readings() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW)) {
    if (!library_) throw Error::refused("no libnvidia-ml.so.1", {}, "install NVIDIA's driver");
    demand(symbol<int (*)()>("nvmlInit_v2")());
    demand(symbol<int (*)(unsigned, void**)>("nvmlDeviceGetHandleByIndex_v2")(0, &device_));
  }
  double megahertz() const {
    unsigned value = 0;
    constexpr int kProcessors = 1;  // which clock
    demand(symbol<int (*)(void*, int, unsigned*)>("nvmlDeviceGetClockInfo")(device_, kProcessors,
                                                                            &value));
    return value;
  }
  double watts() const {
    unsigned value = 0;
    demand(symbol<int (*)(void*, unsigned*)>("nvmlDeviceGetPowerUsage")(device_, &value));
    return value / 1000.0;
  }

 private:
  static void demand(int status) {
    if (status != 0) throw Error::failed("NVML gives status " + std::to_string(status));
  }
  template <class Function>
  Function symbol(const char* name) const {
    void* const found = dlsym(library_, name);
    if (!found) throw Error::failed(std::string("NVML has no ") + name);
    return reinterpret_cast<Function>(found);
  }
  void *library_, *device_ = nullptr;
};

__device__ void store(float value, float, __nv_bfloat16* to) { *to = __float2bfloat16_rn(value); }
__device__ void store(float value, float range, __nv_fp8_e4m3* to) {
  *to = __nv_fp8_e4m3(value * range);
}
__device__ void store(float value, float range, int8_t* to) {
  *to = static_cast<int8_t>(rintf(fminf(fmaxf(value * range, -127), 127)));
}

// The i-th two of normal numbers.
__device__ float2 normal_pair(int64_t i, uint32_t seed) {
  uint64_t bits = (static_cast<uint64_t>(i) << 8 | seed) * 0x9e3779b97f4a7c15u;
  bits = (bits ^ bits >> 29) * 0xbf58476d1ce4e5b9u;
  bits ^= bits >> 32;
  const float radius = sqrtf(-2 * __logf((static_cast<float>(bits & 0xffffff) + 1) / 16777216.0f));
  const float angle = 6.2831853f * static_cast<float>(bits >> 40) / 16777216.0f;
  return make_float2(radius * __cosf(angle), radius * __sinf(angle));
}

// Normal numbers times `range`, of 8-bit types, as quantized rows have them.
template <class T>
__global__ void fill(T* to, int64_t count, float range, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x)
    store(normal_pair(i, seed).x, range, to + i);
}

// Chunks of 4-bit weights (int4_layout.h) as rounding normal numbers makes them, an eighth of their
// group's largest a step. A code stands for as many times 2^-133 (int4.cuh), so scales are 2^123 to
// 2^124: with small ones the weights would be subnormal, of few bits, and take less energy.
__global__ void fill_chunks(uint8_t* to, int64_t chunks, uint32_t seed) {
  constexpr int kChunk = kInt4WordBytes + kInt4GroupBytes;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < chunks * kChunk;
       i += int64_t{gridDim.x} * blockDim.x) {
    const float2 two = normal_pair(i, seed);
    const auto code = [](float value) {
      return static_cast<uint32_t>(rintf(fminf(fmaxf(2.7f * value, -8), 7)) + 8);
    };
    const bool scale = i % kChunk >= kInt4WordBytes;
    to[i] = static_cast<uint8_t>(!scale       ? code(two.x) | code(two.y) << 4
                                 : i % 2 == 0 ? code(two.x) << 3
                                              : 0x7d);
  }
}

// The products of a layer, one after the other.
template <class T>
class Layer {
 public:
  // int4: of weights in 4 bits, T of the inputs.
  Layer(float range, bool int4) : scales_(4 * kMostScales) {
    const std::vector<float> ones(kMostScales, 1e-3f);
    check(cudaMemcpy(scales_.as<void>(), ones.data(), 4 * kMostScales, cudaMemcpyHostToDevice),
          "copy");
    for (const Shape& shape : kShapes) {
      const int64_t outputs = shape.gated ? 2 * shape.out : shape.out;
      weights_.push_back(int4 ? chunks(outputs * shape.in) : numbers(outputs * shape.in, range));
      inputs_.push_back(numbers(kRows * shape.in, range));
      results_.push_back(std::make_unique<DeviceMemory>(kRows * shape.out * 2));
      operations_ += 2.0 * static_cast<double>(kRows * outputs * shape.in);
    }
    check(cudaDeviceSynchronize(), "a kernel");
  }
  double operations() const { return operations_; }

  void run(void (*product)(const Gemm&, cudaStream_t)) const {
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Shape& shape = kShapes[i];
      Gemm gemm;
      gemm.weight = weights_[i]->as<void>();
      gemm.x = inputs_[i]->as<void>();
      gemm.row_scale = gemm.column_scale = scales_.as<float>();
      gemm.rows = kRows;
      gemm.out = shape.out;
      gemm.in = shape.in;
      gemm.x_stride = gemm.w_stride = shape.in * static_cast<int64_t>(sizeof(T));
      gemm.w_rows = shape.gated ? 2 * shape.out : shape.out;
      gemm.gated = shape.gated;
      gemm.y = {results_[i]->as<void>(), false, shape.out, nullptr};
      product(gemm, nullptr);
    }
  }

 private:
  static constexpr size_t kMostScales = 28672;

  std::unique_ptr<DeviceMemory> numbers(int64_t count, float range) const {
    auto memory = std::make_unique<DeviceMemory>(static_cast<size_t>(count) * sizeof(T));
    fill<<<1024, 256>>>(memory->as<T>(), count, range, static_cast<uint32_t>(inputs_.size()));
    return memory;
  }
  std::unique_ptr<DeviceMemory> chunks(int64_t weights) const {
    const int64_t count = weights / (kInt4Outs * kInt4Inputs);
    auto memory = std::make_unique<DeviceMemory>(static_cast<size_t>(count) *
                                                 (kInt4WordBytes + kInt4GroupBytes));
    fill_chunks<<<1024, 256>>>(memory->as<uint8_t>(), count, static_cast<uint32_t>(inputs_.size()));
    return memory;
  }

  DeviceMemory scales_;
  std::vector<std::unique_ptr<DeviceMemory>> weights_, inputs_, results_;
  double operations_ = 0;
};

void product_int4(const Gemm& gemm, cudaStream_t stream) {
  const Int4Weights weights{static_cast<const uint8_t*>(gemm.weight), gemm.column_scale,
                            kInt4Inputs, false};
  (gemm.gated ? gated_int4 : gemm_int4)(weights, gemm.out, gemm.in,
                                        static_cast<const __nv_bfloat16*>(gemm.x), gemm.rows,
                                        gemm.y, stream);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class T>
void measure(const char* name, float range, void (*product)(const Gemm&, cudaStream_t),
             double seconds, const Readings& readings, bool int4 = false) {
  const Layer<T> layer(range, int4);
  layer.run(product);
  check(cudaDeviceSynchronize(), "a kernel");
  std::this_thread::sleep_for(std::chrono::seconds(1));
  constexpr int kBurst = 4, kTrain = 16;  // layers
  const auto rate = [&](int layers, double time) {
    return layers * layer.operations() / time / 1e12;
  };
  Clock::time_point start = Clock::now();
  for (int i = 0; i < kBurst; ++i) layer.run(product);
  check(cudaDeviceSynchronize(), "a kernel");
  const double burst = rate(kBurst, seconds_since(start));
  // The first half is for the clock to settle.
  int layers = 0, samples = 0;
  double clock = 0, power = 0;
  Clock::time_point settled{};
  for (start = Clock::now(); seconds_since(start) < seconds;) {
    const bool counts = seconds_since(start) > seconds / 2;
    if (counts && samples == 0) settled = Clock::now();
    for (int i = 0; i < kTrain; ++i) layer.run(product);
    if (counts) {
      layers += kTrain;
      ++samples;
      clock += readings.megahertz();
      power += readings.watts();
    }
    check(cudaDeviceSynchronize(), "a kernel");
  }
  std::printf("%-5s first %d layers %6.0f TFLOP/s, sustained %6.0f at %.0f MHz and %.0f W\n", name,
              kBurst, burst, rate(layers, seconds_since(settled)), clock / samples,
              power / samples);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc > 2) {
    std::fprintf(stderr, "usage: power_limit [SECONDS]\n");
    return 2;
  }
  const auto seconds = static_cast<double>(argc > 1 ? benchmarks::count_of(argv[1]) : 3);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  std::printf("%s\n", properties.name);
  const Readings readings;
  measure<__nv_bfloat16>("bf16", 1, gemm_bf16, seconds, readings);
  measure<__nv_fp8_e4m3>("e4m3", 100, gemm_fp8, seconds, readings);
  measure<int8_t>("int8", 32, gemm_int8, seconds, readings);
  measure<__nv_bfloat16>("int4", 1, product_int4, seconds, readings, true);
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "power_limit: %s\n", error.what());
  return error.exit_status();
}
