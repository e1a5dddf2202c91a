// Time of a decode step of a Llama-3.1-8B-shaped model with random weights, keys and values, by
// batch size, from the host's clock around what the engine does: plan, kernels, the likeliest
// tokens back on the host. Before that, the logits of such steps through one layer, all rows, are
// compared with those of `reference`.
//
//   decode_step FORMAT [BACKEND [CONTEXT [BATCH|fp8_kv...]]]     default: cuda 512 1 8 32 80 160
//
// BACKEND cuda-portable: the kernels of other devices, on Hopper too. fp8_kv: keys and values in
// e4m3. The last two batches are no powers of two: those have hidden what all others paid for. The
// floor is what reading weights, keys and values takes at the rate at which this GPU copies from
// memory.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <thread>

#include "arguments.h"
#include "base/error.h"
#include "model/decoder.h"
#include "ops/cuda_plugin.h"
#include "synthetic_checkpoint.h"
#include "tile_stream.h"

namespace {

using namespace narrow;
using benchmarks::kLlama8B;
using Clock = std::chrono::steady_clock;

constexpr int64_t kLongestPrefill = 4096;  // as one step

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

int64_t blocks_of(int64_t tokens) {
  return (tokens + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens;
}

// Keys and values as random as activations: zeros would cost a GPU less energy, and thereby time.
void fill(model::Decoder& decoder, const model::KvCache& kv) {
  std::mt19937 random(23);
  std::normal_distribution<float> distribution(0, 1);
  Tensor numbers(DType::f32, {1'000'003});
  for (float& number : numbers.as<float>()) number = to_float(to_bf16(distribution(random)));
  const Tensor few = numbers.to(kv.layer(0).dtype);
  Tensor many(DType::i8, {kv.layer(0).size_bytes});
  for (int64_t done = 0; done < many.size_bytes(); done += few.size_bytes())
    std::memcpy(many.data() + done, few.data(),
                static_cast<size_t>(std::min(few.size_bytes(), many.size_bytes() - done)));
  for (const ops::DeviceBuffer& layer : kv.layers()) decoder.backend().upload(layer, many.raw());
  decoder.backend().synchronize();
}

// `rows` tokens of the `index`-th of the sequences that lie in the cache one behind the other.
void append(ops::Batch& step, int64_t index, int64_t rows, int64_t context, int64_t vocabulary) {
  const int64_t blocks = blocks_of(context);
  ops::Batch::Sequence sequence;
  sequence.first_row = step.rows();
  sequence.rows = rows;
  sequence.context = context;
  sequence.blocks.resize(static_cast<size_t>(blocks));
  std::iota(sequence.blocks.begin(), sequence.blocks.end(), static_cast<int32_t>(index * blocks));
  for (int64_t r = 0; r < rows; ++r) {
    step.tokens.push_back(static_cast<int32_t>((index * 37 + r) % vocabulary));
    step.positions.push_back(static_cast<int32_t>(context - rows + r));
  }
  step.sequences.push_back(std::move(sequence));
}

// Of the first `different` sequences, again and again.
ops::Batch step_of(int64_t batch, int64_t different, int64_t rows, int64_t context,
                   int64_t vocabulary) {
  ops::Batch step;
  for (int64_t i = 0; i < batch; ++i) append(step, i % different, rows, context, vocabulary);
  return step;
}

// The logits of sequence `index` alone.
Tensor logits_alone(model::Decoder& decoder, model::KvCache& kv, int64_t index, int64_t context) {
  ops::Batch step;
  append(step, index, 1, context, decoder.config().vocabulary);
  const std::vector<int32_t> row = {0};
  const View<const float> logits = decoder.forward(std::move(step), kv, row);
  Tensor kept(DType::f32, {logits.cols});
  std::copy_n(logits.row(0).begin(), logits.cols, kept.as<float>().begin());
  return kept;
}

// Of two vectors, in parts of the length of the second.
double distance(std::span<const float> a, std::span<const float> b) {
  double squares = 0, of_difference = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double difference = double{a[i]} - b[i];
    squares += double{b[i]} * b[i];
    of_difference += difference * difference;
  }
  return std::sqrt(of_difference / squares);
}

// Throws Error::failed where a sequence of a step of any of `batches` is not what `reference`
// gives.
void check(const std::string& format, ops::Backend& backend, DType kv_dtype, int64_t context,
           const std::vector<int64_t>& batches) {
  // Activations are bf16 on a GPU and float32 in `reference`, and where they become codes another
  // one is often the next.
  const double most_error = scheme_of_format(format).inputs ? 0.25 : 0.05;
  constexpr int64_t kDifferent = 13;  // sequences: no tile has a multiple of so many rows
  Json config = kLlama8B;
  config["num_hidden_layers"] = 1;
  config["vocab_size"] = 16384;
  const benchmarks::SyntheticCheckpoint checkpoint(config, format);
  const auto reference_backend = ops::make_backend("reference");
  const int64_t rows = *std::max_element(batches.begin(), batches.end());
  model::Decoder decoder(checkpoint, backend, rows), reference(checkpoint, *reference_backend, 1);
  model::KvCache kv(decoder.config(), backend, kDifferent * blocks_of(context), kv_dtype);
  model::KvCache reference_kv(
      decoder.config(), *reference_backend, kv.blocks(),
      kv_dtype == DType::f8_e4m3 ? kv_dtype : reference_backend->kv_dtype());
  fill(decoder, kv);
  fill(reference, reference_kv);
  std::vector<Tensor> expected;
  for (int64_t i = 0; i < std::min(rows, kDifferent); ++i)
    expected.push_back(logits_alone(reference, reference_kv, i, context));
  double worst = 0;
  for (const int64_t batch : batches) {
    std::vector<int32_t> all(static_cast<size_t>(batch));
    std::iota(all.begin(), all.end(), 0);
    const View<const float> got = decoder.forward(
        step_of(batch, kDifferent, 1, context, decoder.config().vocabulary), kv, all);
    for (int64_t r = 0; r < batch; ++r) {
      const double error =
          distance(got.row(r), expected[static_cast<size_t>(r % kDifferent)].as<float>());
      if (!(error <= most_error))
        throw Error::failed(
            fmt::format("batch {}, row {}: logits are {:.0f} % of their magnitude from reference's",
                        batch, r, 100 * error));
      worst = std::max(worst, error);
    }
  }
  std::cout << fmt::format(
                   "  logits of one layer are within {:.2f} % of their magnitude of reference's",
                   100 * worst)
            << std::endl;
}

// Median milliseconds of one step of `rows` tokens for `batch` sequences of `context` tokens.
double step_time(model::Decoder& decoder, model::KvCache& kv, int64_t batch, int64_t rows,
                 int64_t context, int repetitions) {
  const ops::Batch step = step_of(batch, batch, rows, context, decoder.config().vocabulary);
  std::vector<int32_t> logit_rows;
  for (const auto& sequence : step.sequences)
    logit_rows.push_back(static_cast<int32_t>(sequence.first_row + sequence.rows - 1));
  const std::vector<ops::LogitQuery> greedy(logit_rows.size());
  std::vector<double> times;
  // The power limit's clock recovers slowly from steps of many rows.
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  for (int i = 0; i < repetitions + 3; ++i) {
    const auto start = Clock::now();
    decoder.start(step, kv, logit_rows, greedy);
    decoder.finish();
    if (i >= 3) times.push_back(milliseconds_since(start));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// ", 87 % of the floor", where the rate of memory is known.
std::string share_of_floor(double bytes, double milliseconds, std::optional<double> rate) {
  if (!rate) return "";
  return fmt::format(", {:.0f} % of the floor", 100 * bytes / *rate / (milliseconds / 1000));
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
  check(format, *backend, kv_dtype, context, batches);
  std::optional<double> rate;
  if (name.starts_with("cuda")) rate = benchmarks::memory_rate();
  if (rate) std::cout << fmt::format("  memory: {:.2f} TB/s\n", *rate / 1e12);
  const benchmarks::SyntheticCheckpoint checkpoint(kLlama8B, format);
  const auto start = Clock::now();
  model::Decoder decoder(checkpoint, *backend, kLongestPrefill);
  const auto bytes = static_cast<double>(decoder.weight_bytes());
  std::cout << fmt::format("{} on {}: {:.2f} GB of weights a step, ready in {:.1f} s\n", format,
                           backend->describe(), bytes / 1e9, milliseconds_since(start) / 1000);
  const int64_t most = *std::max_element(batches.begin(), batches.end()) * blocks_of(context);
  model::KvCache kv(decoder.config(), *backend, std::max(most, blocks_of(kLongestPrefill)),
                    kv_dtype);
  fill(decoder, kv);
  const auto bytes_of_block =
      static_cast<double>(model::KvCache::bytes_per_block(decoder.config(), *backend, kv_dtype));
  for (const int64_t batch : batches) {
    const double time = step_time(decoder, kv, batch, 1, context, 30);
    const double read =
        bytes + static_cast<double>(batch * context) / ops::kKvBlockTokens * bytes_of_block;
    std::cout << fmt::format("  decode, batch {:>3}, context {}: {:.3f} ms{}\n", batch, context,
                             time, share_of_floor(read, time, rate));
  }
  for (const int64_t tokens : {int64_t{512}, kLongestPrefill})
    std::cout << fmt::format("  prefill of {} tokens: {:.2f} ms\n", tokens,
                             step_time(decoder, kv, 1, tokens, tokens, 5));
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "decode_step: " << error.what() << "\n";
  return error.exit_status();
}
