// Attention with Llama-3.1-8B's heads on the GPU, with caches in bf16 and e4m3: of prompts, by
// number of tokens, of several prompts in a step, and of single rows of many sequences, by both
// kernels that could compute them. Checks that rows have the bits that each has alone and that a
// prompt's values are the formula's, then times launches that follow each other, of single rows on
// caches that have left the second-level cache.
//
//   cuda_attention [CONTEXT ROWS...]     default: those of docs/performance/attention.md
//
// With arguments only single rows, as many as each ROWS says, that see CONTEXT tokens.
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
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

constexpr int kHeads = 32, kKvHeads = 8, kHeadDim = 128, kBlockTokens = 16;
const AttentionLayer kLayer = {
    .heads = kHeads, .kv_heads = kKvHeads, .head_dim = kHeadDim, .scale = 0.08838835f};
constexpr int64_t kRowNumbers = (kHeads + 2 * kKvHeads) * kHeadDim;

template <class T>
void upload(const DeviceMemory& to, const std::vector<T>& from) {
  check(cudaMemcpy(to.as<void>(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
        "copy");
}

template <class T>
std::vector<T> download(const DeviceMemory& from, size_t count) {
  std::vector<T> to(count);
  check(cudaMemcpy(to.data(), from.as<void>(), count * sizeof(T), cudaMemcpyDeviceToHost), "copy");
  return to;
}

// Blocks of [keys, values][kv head][token][dim], numbered backwards in the block table.
struct Cache {
  std::vector<double> values;
  std::vector<uint8_t> bytes;
  std::vector<int32_t> table;
  int64_t blocks;

  Cache(int64_t tokens, bool e4m3) : blocks((tokens + kBlockTokens - 1) / kBlockTokens) {
    table.resize(static_cast<size_t>(blocks));
    std::iota(table.rbegin(), table.rend(), 0);
    const auto numbers = static_cast<size_t>(blocks * 2 * kKvHeads * kBlockTokens * kHeadDim);
    std::mt19937 engine(2);
    std::normal_distribution<float> normal(0, 1);
    values.resize(numbers);
    bytes.resize(numbers * (e4m3 ? 1 : 2));
    for (size_t i = 0; i < numbers; ++i) {
      const float number = normal(engine);
      if (e4m3) {
        const __nv_fp8_e4m3 code(number);
        bytes[i] = code.__x;
        values[i] = static_cast<float>(code);
      } else {
        const bf16 rounded = to_bf16(number);
        reinterpret_cast<bf16*>(bytes.data())[i] = rounded;
        values[i] = to_float(rounded);
      }
    }
  }
  // Dim 0 of a token's key (or value).
  const double* at(bool value, int64_t kv_head, int64_t token) const {
    const int64_t block = table[static_cast<size_t>(token / kBlockTokens)];
    return values.data() + (((block * 2 + (value ? 1 : 0)) * kKvHeads + kv_head) * kBlockTokens +
                            token % kBlockTokens) *
                               kHeadDim;
  }
};

// A row's result of one head in double.
std::vector<double> formula(const bf16* query, const Cache& cache, int64_t head, int64_t visible) {
  const int64_t kv_head = head / (kHeads / kKvHeads);
  std::vector<double> weights(static_cast<size_t>(visible)), result(kHeadDim);
  double sum = 0;
  for (int64_t token = 0; token < visible; ++token) {
    double score = 0;
    for (int d = 0; d < kHeadDim; ++d)
      score += to_float(query[d]) * cache.at(false, kv_head, token)[d];
    sum += weights[static_cast<size_t>(token)] = std::exp(score / std::sqrt(kHeadDim));
  }
  for (int64_t token = 0; token < visible; ++token)
    for (int d = 0; d < kHeadDim; ++d)
      result[static_cast<size_t>(d)] +=
          weights[static_cast<size_t>(token)] / sum * cache.at(true, kv_head, token)[d];
  return result;
}

// Prompts of so many tokens, which have one cache in common.
void measure_prompts(int prompts, int tokens, bool e4m3, cudaStream_t stream) {
  const int all = prompts * tokens;
  const Cache cache(tokens, e4m3);
  std::vector<bf16> qkv(static_cast<size_t>(all * kRowNumbers));
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, 1);
  for (bf16& number : qkv) number = to_bf16(normal(engine));

  std::vector<int32_t> row, rows, visible, single_row, single_visible;
  // What sees most stands first.
  for (int32_t first = (tokens - 1) / kPrefillRows * kPrefillRows; first >= 0;
       first -= kPrefillRows)
    for (int prompt = 0; prompt < prompts; ++prompt) {
      row.push_back(prompt * tokens + first);
      rows.push_back(std::min(kPrefillRows, tokens - first));
      visible.push_back(first + 1);
    }
  for (int i = 0; i < 8; ++i) {
    single_row.push_back(i == 0 ? all - 1 : i * 7919 % all);
    single_visible.push_back(single_row.back() % tokens + 1);
  }
  const std::vector<int32_t> table_at(std::max(row.size(), single_row.size()), 0);

  const auto bytes_of = [](const auto& list) { return list.size() * sizeof(list[0]); };
  const DeviceMemory kv(cache.bytes.size()), input(bytes_of(qkv)), table(bytes_of(cache.table)),
      zeros(bytes_of(table_at)), tile_row(bytes_of(row)), tile_rows(bytes_of(rows)),
      tile_visible(bytes_of(visible)), one_row(bytes_of(single_row)),
      one_visible(bytes_of(single_visible));
  upload(kv, cache.bytes);
  upload(input, qkv);
  upload(table, cache.table);
  upload(zeros, table_at);
  upload(tile_row, row);
  upload(tile_rows, rows);
  upload(tile_visible, visible);
  upload(one_row, single_row);
  upload(one_visible, single_visible);
  const size_t out_numbers = static_cast<size_t>(all) * kHeads * kHeadDim;
  const DeviceMemory out(2 * out_numbers), alone(2 * out_numbers);

  AttentionLayer layer = kLayer;
  layer.kv = kv.as<void>();
  layer.e4m3 = e4m3;
  layer.blocks = cache.blocks;
  DeviceBatch batch;
  batch.block_table = table.as<int32_t>();
  batch.rows = all;
  DeviceBatch singles = batch;
  batch.tile_row = tile_row.as<int32_t>();
  batch.tile_rows = tile_rows.as<int32_t>();
  batch.tile_table = zeros.as<int32_t>();
  batch.tile_visible = tile_visible.as<int32_t>();
  batch.tiles = static_cast<int>(row.size());
  singles.single_row = one_row.as<int32_t>();
  singles.single_table = zeros.as<int32_t>();
  singles.single_visible = one_visible.as<int32_t>();
  singles.singles = static_cast<int>(single_row.size());
  singles.chunks = (tokens + kDecodeChunk - 1) / kDecodeChunk;

  const auto run = [&](int) {
    prefill_attention(batch, layer, input.as<__nv_bfloat16>(), out.as<__nv_bfloat16>(), stream);
  };
  run(0);
  walk_attention(singles, layer, input.as<__nv_bfloat16>(), alone.as<__nv_bfloat16>(), stream);
  check(cudaStreamSynchronize(stream), "a kernel");
  const auto together = download<bf16>(out, out_numbers),
             apart = download<bf16>(alone, out_numbers);
  int64_t different = 0;
  double worst = 0;
  for (const int32_t r : single_row) {
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      const auto at = static_cast<size_t>(r * kHeads * kHeadDim + i);
      different += together[at].bits != apart[at].bits;
    }
    const int64_t head = r % kHeads;
    const auto expected =
        formula(qkv.data() + r * kRowNumbers + head * kHeadDim, cache, head, r % tokens + 1);
    double largest = 0, error = 0;
    for (int d = 0; d < kHeadDim; ++d) {
      const double got =
          to_float(together[static_cast<size_t>((r * kHeads + head) * kHeadDim + d)]);
      largest = std::max(largest, std::fabs(expected[static_cast<size_t>(d)]));
      error = std::max(error, std::fabs(got - expected[static_cast<size_t>(d)]));
    }
    worst = std::max(worst, error / largest);
  }
  const double time = time_of(run, all > 2000 ? 100 : 400, stream);
  // Two products over the pairs of a row and a token that it sees.
  const double operations = 4.0 * kHeads * kHeadDim * prompts * (0.5 * tokens * (tokens + 1.0));
  std::cout << fmt::format(
      "{} of {:>4} tokens, cache in {}  {:>8.1f} us  {:>4.0f} TFLOP/s  error {:.1e}  {} numbers "
      "differ from those of rows alone\n",
      prompts, tokens, e4m3 ? "e4m3" : "bf16", time, operations / time * 1e-6, worst, different);
}

// One row of each of `sequences`, that sees `context` tokens.
void measure_rows(int sequences, int context, bool e4m3, cudaStream_t stream) {
  const int blocks_each = (context + kBlockTokens - 1) / kBlockTokens;
  const int64_t blocks = int64_t{sequences} * blocks_each;
  const size_t numbers = static_cast<size_t>(blocks) * 2 * kKvHeads * kBlockTokens * kHeadDim;
  const size_t bytes = numbers * (e4m3 ? 1 : 2);
  // Layers, so that a cache has left the 50 MB of the second level when its turn comes again.
  const int layers = static_cast<int>(std::max<size_t>(2, 200'000'000 / bytes));
  const DeviceMemory kv(bytes * static_cast<size_t>(layers));
  {
    std::mt19937 engine(3);
    std::vector<uint32_t> words(bytes / 4);
    // Magnitudes below 2 in both types, without NaN.
    for (uint32_t& word : words) word = static_cast<uint32_t>(engine()) & 0xbf3fbf3f;
    for (int layer = 0; layer < layers; ++layer)
      check(cudaMemcpy(kv.as<uint8_t>() + static_cast<size_t>(layer) * bytes, words.data(), bytes,
                       cudaMemcpyHostToDevice),
            "copy");
  }
  std::vector<bf16> qkv(static_cast<size_t>(sequences * kRowNumbers));
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, 1);
  for (bf16& number : qkv) number = to_bf16(normal(engine));
  std::vector<int32_t> row(static_cast<size_t>(sequences)), table_at(row.size()),
      visible(row.size(), context), table(static_cast<size_t>(blocks));
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < row.size(); ++i) table_at[i] = static_cast<int32_t>(i) * blocks_each;
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), engine);
  const auto bytes_of = [](const auto& list) { return list.size() * sizeof(list[0]); };
  const DeviceMemory input(bytes_of(qkv)), rows(bytes_of(row)), tables(bytes_of(table_at)),
      seen(bytes_of(visible)), block_table(bytes_of(table));
  upload(input, qkv);
  upload(rows, row);
  upload(tables, table_at);
  upload(seen, visible);
  upload(block_table, table);

  AttentionLayer layer = kLayer;
  layer.e4m3 = e4m3;
  layer.blocks = blocks;
  DeviceBatch batch;
  batch.block_table = block_table.as<int32_t>();
  batch.rows = batch.singles = sequences;
  batch.single_row = rows.as<int32_t>();
  batch.single_table = tables.as<int32_t>();
  batch.single_visible = seen.as<int32_t>();
  batch.chunks = (context + kDecodeChunk - 1) / kDecodeChunk;
  const size_t out_numbers = static_cast<size_t>(sequences) * kHeads * kHeadDim;
  const DeviceMemory out(2 * out_numbers),
      workspace(static_cast<size_t>(decode_workspace_bytes(layer, sequences, batch.chunks)) + 16),
      counters(static_cast<size_t>(4 * sequences * kKvHeads));
  check(cudaMemset(counters.as<void>(), 0, static_cast<size_t>(4 * sequences * kKvHeads)), "set");
  const auto in_pieces = [&](int i) {
    layer.kv = kv.as<uint8_t>() + static_cast<size_t>(i % layers) * bytes;
    decode_attention(batch, layer, input.as<__nv_bfloat16>(), out.as<__nv_bfloat16>(),
                     workspace.as<float>(), counters.as<uint32_t>(), stream);
  };
  const auto in_walks = [&](int i) {
    layer.kv = kv.as<uint8_t>() + static_cast<size_t>(i % layers) * bytes;
    walk_attention(batch, layer, input.as<__nv_bfloat16>(), out.as<__nv_bfloat16>(), stream);
  };
  in_pieces(0);
  check(cudaStreamSynchronize(stream), "a kernel");
  const auto pieces = download<bf16>(out, out_numbers);
  in_walks(0);
  check(cudaStreamSynchronize(stream), "a kernel");
  const auto walks = download<bf16>(out, out_numbers);
  int64_t different = 0;
  for (size_t i = 0; i < out_numbers; ++i) different += pieces[i].bits != walks[i].bits;
  const double of_pieces = time_of(in_pieces, 100, stream);
  const double of_walks = time_of(in_walks, 100, stream);
  const auto rate = [bytes](double time) { return static_cast<double>(bytes) / time * 1e-6; };
  std::cout << fmt::format(
      "{:>4} rows that see {:>5} tokens, cache in {}  pieces {:>7.1f} us {:>5.2f} TB/s  walks "
      "{:>7.1f} us {:>5.2f} TB/s  {} numbers differ\n",
      sequences, context, e4m3 ? "e4m3" : "bf16", of_pieces, rate(of_pieces), of_walks,
      rate(of_walks), different);
}

}  // namespace

int main(int count, char** arguments) try {
  if (count == 2) throw narrow::Error::refused("no ROWS beside CONTEXT");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  std::cout << properties.name << "\n";
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "stream");
  for (const bool e4m3 : {false, true}) {
    if (count > 1) {
      const auto number = [&](int i) {
        return static_cast<int>(narrow::benchmarks::count_of(arguments[i]));
      };
      for (int i = 2; i < count; ++i) measure_rows(number(i), number(1), e4m3, stream);
      continue;
    }
    for (const int tokens : {512, 1024, 4096}) measure_prompts(1, tokens, e4m3, stream);
    measure_prompts(8, 1000, e4m3, stream);
    for (const int context : {512, 4096})
      for (const int sequences : {4, 8, 16, 32, 64, 256}) {
        if (sequences * context > 300'000) continue;
        measure_rows(sequences, context, e4m3, stream);
      }
  }
  cudaStreamDestroy(stream);
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "cuda_attention: " << error.what() << "\n";
  return error.exit_status();
}
