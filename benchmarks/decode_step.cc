// Time of a decode step of a Llama-3.1-8B-shaped model with random weights, by batch size, from the
// host's clock around what the engine does: plan, kernels, the likeliest tokens back on the host.
//
//   decode_step FORMAT [BACKEND [CONTEXT [BATCH|fp8_kv...]]]     default: cuda 512 1 8 32 80 160
//
// BACKEND cuda-portable: the kernels of other devices, on Hopper too. fp8_kv: keys and values in
// e4m3. The last two batches are no powers of two: those have hidden what all others paid for.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>

#include "arguments.h"
#include "base/error.h"
#include "model/decoder.h"
#include "ops/cuda_plugin.h"
#include "synthetic_checkpoint.h"

namespace {

using namespace narrow;
using benchmarks::kLlama8B;
using Clock = std::chrono::steady_clock;

constexpr int64_t kLongestPrefill = 4096;  // as one step

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Median milliseconds of one step of `rows` tokens for `batch` sequences of `context` tokens.
double step_time(model::Decoder& decoder, DType kv_dtype, int64_t batch, int64_t rows,
                 int64_t context, int repetitions) {
  const int64_t blocks = (context + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens;
  model::KvCache kv(decoder.config(), decoder.backend(), batch * blocks, kv_dtype);
  ops::Batch step;
  std::vector<int32_t> logit_rows;
  for (int64_t i = 0; i < batch; ++i) {
    ops::Batch::Sequence sequence;
    sequence.first_row = step.rows();
    sequence.rows = rows;
    sequence.context = context;
    sequence.blocks.resize(static_cast<size_t>(blocks));
    std::iota(sequence.blocks.begin(), sequence.blocks.end(), static_cast<int32_t>(i * blocks));
    for (int64_t r = 0; r < rows; ++r) {
      step.tokens.push_back(static_cast<int32_t>((i * 37 + r) % decoder.config().vocabulary));
      step.positions.push_back(static_cast<int32_t>(context - rows + r));
    }
    logit_rows.push_back(static_cast<int32_t>(step.rows() - 1));
    step.sequences.push_back(std::move(sequence));
  }
  const std::vector<ops::LogitQuery> greedy(logit_rows.size());
  std::vector<double> times;
  for (int i = 0; i < repetitions + 3; ++i) {
    const auto start = Clock::now();
    decoder.start(step, kv, logit_rows, greedy);
    decoder.finish();
    if (i >= 3) times.push_back(milliseconds_since(start));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: decode_step FORMAT [BACKEND [CONTEXT [BATCH|fp8_kv...]]]\n";
    return 2;
  }
  const std::string format = argv[1];
  const std::string name = argc > 2 ? argv[2] : "cuda";
  const auto backend = name == "cuda-portable"
                           ? ops::make_cuda_backend(0, ops::CudaKernels::portable)
                           : ops::make_backend(name);
  const int64_t context = argc > 3 ? benchmarks::count_of(argv[3]) : 512;
  std::vector<int64_t> batches;
  DType kv_dtype = DType::bf16;
  for (int i = 4; i < argc; ++i) {
    if (argv[i] == std::string_view("fp8_kv")) {
      kv_dtype = DType::f8_e4m3;
    } else {
      batches.push_back(benchmarks::count_of(argv[i]));
    }
  }
  if (batches.empty()) batches = {1, 8, 32, 80, 160};
  const benchmarks::SyntheticCheckpoint checkpoint(kLlama8B, format);
  const auto start = Clock::now();
  model::Decoder decoder(checkpoint, *backend, kLongestPrefill);
  const double bytes = static_cast<double>(decoder.weight_bytes());
  std::cout << fmt::format("{} on {}: {:.2f} GB of weights a step, ready in {:.1f} s\n", format,
                           backend->describe(), bytes / 1e9, milliseconds_since(start) / 1000);
  for (const int64_t batch : batches) {
    const double time = step_time(decoder, kv_dtype, batch, 1, context, 30);
    std::cout << fmt::format(
        "  decode, batch {:>3}, context {}: {:.3f} ms, weights at {:.2f} TB/s\n", batch, context,
        time, bytes / time / 1e9);
  }
  for (const int64_t tokens : {int64_t{512}, kLongestPrefill})
    std::cout << fmt::format("  prefill of {} tokens: {:.2f} ms\n", tokens,
                             step_time(decoder, kv_dtype, 1, tokens, tokens, 5));
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "decode_step: " << error.what() << "\n";
  return error.exit_status();
}
