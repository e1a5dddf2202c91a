// Every operation of `cuda` against `reference`, on the device. Activations are bf16 here and
// float32 there: inputs are bf16 values, so that what is compared is the arithmetic.
// NARROW_CUDA_TEST_KERNELS=portable: the portable kernels, on Hopper too.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>

#include "base/error.h"
#include "ops/backend.h"
#include "ops/cuda_plugin.h"

namespace narrow::ops {
namespace {

std::mt19937 random_numbers(7);

Tensor normal(std::vector<int64_t> shape, DType dtype, float spread = 1) {
  std::normal_distribution<float> distribution(0, spread);
  Tensor tensor(DType::f32, std::move(shape));
  for (float& value : tensor.as<float>()) value = distribution(random_numbers);
  return tensor.to(dtype);
}

// As quantize writes them: random codes, scales such that weights have a spread of about 0.02.
PackedLinear layer(const std::string& format, int64_t out, int64_t in, int64_t group, bool bias) {
  PackedLinear linear;
  linear.out = out;
  linear.in = in;
  if (bias) linear.bias = normal({out}, DType::bf16);
  if (format == "bf16") {
    linear.weight = normal({out, in}, DType::bf16, 0.02f);
    return linear;
  }
  linear.scheme = scheme_of_format(format, group);
  QuantArgs& args = *linear.scheme.weights;
  if (group == in && args.strategy == QuantArgs::Strategy::group)
    args.strategy = QuantArgs::Strategy::channel;
  const int64_t groups = args.strategy == QuantArgs::Strategy::group ? in / group : 1;
  linear.scale = normal({out, groups}, DType::bf16, args.bits == 4 ? 0.005f : 0.0003f);
  for (bf16& scale : linear.scale.as<bf16>()) scale.bits &= 0x7fff;
  if (args.type == QuantArgs::Type::floating) {
    linear.weight = normal({out, in}, DType::f8_e4m3, 60);
    return linear;
  }
  const int half = 1 << (args.bits - 1);
  std::uniform_int_distribution<int> code(-half, half - 1);
  Tensor codes(DType::i8, {out, in});
  for (int8_t& value : codes.as<int8_t>()) value = static_cast<int8_t>(code(random_numbers));
  linear.weight = linear.scheme.inputs ? codes : pack_codes(codes, args.bits);
  if (!args.symmetric) {
    linear.zero_point = Tensor(DType::i8, {out, groups});
    for (int8_t& value : linear.zero_point.as<int8_t>())
      value = static_cast<int8_t>(code(random_numbers));
  }
  return linear;
}

CudaKernels kernels_under_test() {
  const char* wanted = std::getenv("NARROW_CUDA_TEST_KERNELS");
  return wanted && std::string(wanted) == "portable" ? CudaKernels::portable
                                                     : CudaKernels::of_device;
}

class Cuda : public testing::Test {
 protected:
  Cuda()
      : cuda_(make_cuda_backend(0, kernels_under_test())),
        reference_(make_backend("reference")),
        portable_(cuda_->describe().find("portable kernels") != std::string::npos) {}

  // A bf16 matrix on the device.
  DeviceBuffer device(const Tensor& values) {
    const DeviceBuffer buffer = cuda_->allocate(values.size_bytes());
    cuda_->upload(buffer, values.raw());
    cuda_->synchronize();
    return buffer;
  }
  // A KV cache of these numbers, rounded to `dtype`: bf16 or e4m3.
  DeviceBuffer device_cache(const Tensor& values, DType dtype) {
    DeviceBuffer buffer = device(values.to(DType::f32).to(dtype));
    buffer.dtype = dtype;
    return buffer;
  }
  static Matrix matrix(const DeviceBuffer& buffer, int64_t rows, int64_t cols,
                       DType dtype = DType::bf16) {
    return {buffer.data.get(), dtype, rows, cols};
  }
  static Matrix host(Tensor& values) {
    return {values.data(), DType::f32, values.dim(0), values.dim(1)};
  }
  Tensor back(const DeviceBuffer& buffer, int64_t rows, int64_t cols, DType dtype = DType::bf16) {
    Tensor result(dtype, {rows, cols});
    cuda_->download(result.raw(), buffer.data.get());
    return result.to(DType::f32);
  }

  // Largest difference in units of the largest magnitude of the expected row.
  static double worst(const Tensor& got, const Tensor& expected) {
    const auto a = got.matrix<float>(), b = expected.matrix<float>();
    double result = 0;
    for (int64_t r = 0; r < b.rows; ++r) {
      double largest = 1e-30, difference = 0;
      for (int64_t c = 0; c < b.cols; ++c) {
        largest = std::max<double>(largest, std::fabs(b(r, c)));
        difference = std::max<double>(difference, std::fabs(a(r, c) - b(r, c)));
        if (!std::isfinite(a(r, c))) return INFINITY;
      }
      result = std::max(result, difference / largest);
    }
    return result;
  }

  Tensor run(const Linear& linear, const Tensor& x, DType result) {
    const DeviceBuffer in = device(x);
    const DeviceBuffer out = cuda_->allocate(x.dim(0) * linear.out() * size_of(result));
    cuda_->linear(linear, matrix(in, x.dim(0), x.dim(1)),
                  matrix(out, x.dim(0), linear.out(), result));
    return back(out, x.dim(0), linear.out(), result);
  }

  // Portable kernels multiply e4m3 weights with bf16 inputs.
  Tensor expected_product(const PackedLinear& packed, const Tensor& x) {
    Tensor wide = x.to(DType::f32), expected(DType::f32, {x.dim(0), packed.out});
    PackedLinear run = packed;
    const bool weights_alone = portable_ && packed.scheme.inputs &&
                               packed.scheme.inputs->type == QuantArgs::Type::floating;
    if (weights_alone) run.scheme.inputs.reset();
    // The scale is applied to the sum, not rounded into bf16 weights.
    const bool scaled_sum = weights_alone && packed.in % 8 == 0;
    if (scaled_sum)
      for (bf16& scale : (run.scale = Tensor(DType::bf16, {packed.out, 1})).as<bf16>())
        scale = to_bf16(1);
    const auto linear = reference_->prepare(std::span(&run, 1));
    reference_->linear(*linear, host(wide), host(expected));
    if (scaled_sum) {
      const Tensor scales = packed.scale.to(DType::f32);
      auto values = expected.as<float>();
      for (size_t i = 0; i < values.size(); ++i)
        values[i] *= scales.as<float>()[i % static_cast<size_t>(packed.out)];
    }
    return expected;
  }

  std::unique_ptr<Backend> cuda_, reference_;
  bool portable_;
};

struct Shape {
  int64_t out, in;
};

TEST_F(Cuda, LinearAgreesWithReference) {
  // SmolLM2, Qwen2.5, Llama-3.1 8B, odd vocabularies, widths that no tile divides.
  const Shape shapes[] = {{192, 576},   {1536, 576}, {576, 1536}, {1024, 4096},
                          {4096, 1024}, {896, 4864}, {1001, 576}, {64, 172}};
  for (const Shape& shape : shapes) {
    struct Case {
      const char* format;
      int64_t group;
      bool bias;
    };
    std::vector<Case> cases = {{"bf16", 0, true}, {"w8a8-fp", 0, false}, {"w8a8-int", 0, true}};
    cases.push_back({"w4a16-int", shape.in, false});
    for (int64_t group : {32, 64, 128}) {
      if (shape.in % group != 0) continue;
      cases.push_back({"w4a16-int", group, true});
      cases.push_back({"w4a16-awq", group, false});
    }
    for (const Case& c : cases) {
      const PackedLinear packed = layer(c.format, shape.out, shape.in, c.group, c.bias);
      const auto linear = cuda_->prepare(std::span(&packed, 1));
      for (int64_t rows : {1, 9, 20, 40, 130}) {
        const Tensor x = normal({rows, shape.in}, DType::bf16);
        const Tensor expected = expected_product(packed, x);
        // Sums of 128 e4m3 products keep about 14 bits on Hopper.
        const bool fp8 = std::string(c.format) == "w8a8-fp" && !portable_;
        EXPECT_LT(worst(run(*linear, x, DType::f32), expected), fp8 ? 1e-3 : 2e-5)
            << c.format << " group " << c.group << ", " << shape.out << " from " << shape.in
            << ", rows " << rows;
        EXPECT_LT(worst(run(*linear, x, DType::bf16), expected), 8e-3)
            << c.format << " as bf16, rows " << rows;
      }
    }
  }
}

TEST_F(Cuda, ARowIsTheSameAloneAndInAnyBatch) {
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"}) {
    const PackedLinear packed = layer(format, 1024, 4096, 128, false);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    constexpr int64_t kRows = 4200;  // each number of rows below has a tile of its own
    const Tensor x = normal({kRows, 4096}, DType::bf16);
    const auto rows_of = [&](int64_t first, int64_t count) {
      Tensor rows(DType::bf16, {count, 4096});
      std::memcpy(rows.data(), x.data() + first * 4096 * 2, static_cast<size_t>(count * 4096 * 2));
      return run(*linear, rows, DType::f32);
    };
    const Tensor together = rows_of(0, kRows);
    for (int64_t r : {0, 8, 31, 32, 69}) {
      for (int64_t count : {1, 3, 16, 20, 64, 300}) {
        if (r + count > together.dim(0)) continue;
        const Tensor part = rows_of(r, count);
        EXPECT_EQ(std::memcmp(part.data(), together.data() + r * 1024 * 4,
                              static_cast<size_t>(count * 1024 * 4)),
                  0)
            << format << ", " << count << " rows from " << r;
      }
    }
  }
}

TEST_F(Cuda, TilesOfThousandsOfRowsAgreeWithReference) {
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-awq"}) {
    const PackedLinear packed = layer(format, 1992, 224, 32, false);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    const Tensor x = normal({1500, 224}, DType::bf16);
    const Tensor expected = expected_product(packed, x);
    const bool fp8 = std::string(format) == "w8a8-fp" && !portable_;
    EXPECT_LT(worst(run(*linear, x, DType::f32), expected), fp8 ? 1e-3 : 2e-5) << format;
    EXPECT_LT(worst(run(*linear, x, DType::bf16), expected), 8e-3) << format << " as bf16";
  }
}

TEST_F(Cuda, EveryE4m3CodeHasItsValue) {
  // Weight (n, n) is code n, all others are zero; all inputs are one.
  PackedLinear packed = layer("w8a8-fp", 256, 256, 0, false);
  std::memset(packed.weight.data(), 0, 256 * 256);
  for (size_t n = 0; n < 256; ++n)
    packed.weight.as<f8_e4m3>()[n * 257].bits = static_cast<uint8_t>(n);
  for (bf16& scale : packed.scale.as<bf16>()) scale = to_bf16(1);
  const auto linear = cuda_->prepare(std::span(&packed, 1));
  for (const int64_t rows : {3, 40}) {
    Tensor x(DType::bf16, {rows, 256});
    for (bf16& value : x.as<bf16>()) value = to_bf16(1);
    const Tensor got = run(*linear, x, DType::f32);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t n = 0; n < 256; ++n) {
        const float value = to_float(f8_e4m3{static_cast<uint8_t>(n)});
        const float result = got.matrix<float>()(r, n);
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(result)) << "code " << n;
        } else {
          ASSERT_NEAR(result, value, std::fabs(value) * 1e-6) << "code " << n;
        }
      }
  }
}

TEST_F(Cuda, SaysWhichKernelsRun) {
  EXPECT_EQ(cuda_->format_notes().count("w8a8-fp"), portable_ ? 1 : 0);
  if (kernels_under_test() == CudaKernels::portable) {
    EXPECT_TRUE(portable_);
  }
}

TEST_F(Cuda, PartsStandSideBySide) {
  for (const char* format : {"bf16", "w8a8-int", "w4a16-awq"}) {
    // Parts that round their input cannot stand beside one that does not.
    const char* last = std::string(format) == "w4a16-awq" ? "bf16" : format;
    const std::vector<PackedLinear> parts = {layer(format, 576, 576, 64, true),
                                             layer(format, 192, 576, 64, false),
                                             layer(last, 40, 576, 0, true)};
    const auto expected_layer = reference_->prepare(parts), linear = cuda_->prepare(parts);
    const Tensor x = normal({5, 576}, DType::bf16);
    Tensor wide = x.to(DType::f32), expected(DType::f32, {5, 808});
    reference_->linear(*expected_layer, host(wide), host(expected));
    EXPECT_LT(worst(run(*linear, x, DType::f32), expected), 6e-3) << format;
  }
}

TEST_F(Cuda, ElementwiseAgreesWithReference) {
  for (const int64_t cols : {64, 576, 4096, 8192, 100}) {
    const int64_t rows = 9;
    const Tensor x = normal({rows, cols}, DType::bf16), other = normal({rows, cols}, DType::bf16);
    const Tensor gamma = normal({cols}, DType::f32);
    const DeviceBuffer gamma_device = cuda_->prepare(gamma),
                       gamma_host = reference_->prepare(gamma);

    Tensor wide = x.to(DType::f32), expected(DType::f32, {rows, cols});
    reference_->rms_norm(host(wide), gamma_host, 1e-5f, host(expected));
    DeviceBuffer a = device(x), b = device(other), y = cuda_->allocate(rows * cols * 2);
    cuda_->rms_norm(matrix(a, rows, cols), gamma_device, 1e-5f, matrix(y, rows, cols));
    EXPECT_LT(worst(back(y, rows, cols), expected), 5e-3) << cols;
    EXPECT_EQ(worst(back(a, rows, cols), x.to(DType::f32)), 0) << "the input changed";

    cuda_->add_rms_norm(matrix(a, rows, cols), matrix(b, rows, cols), gamma_device, 1e-5f,
                        matrix(y, rows, cols));
    Tensor wide_other = other.to(DType::f32);
    reference_->add(host(wide), host(wide_other));
    EXPECT_LT(worst(back(a, rows, cols), wide), 5e-3) << cols;
    reference_->rms_norm(host(wide), gamma_host, 1e-5f, host(expected));
    EXPECT_LT(worst(back(y, rows, cols), expected), 1e-2) << cols;

    const Tensor gate_up = normal({rows, 2 * cols}, DType::bf16);
    Tensor wide_gate_up = gate_up.to(DType::f32);
    reference_->silu_mul(host(wide_gate_up), host(expected));
    const DeviceBuffer g = device(gate_up);
    cuda_->silu_mul(matrix(g, rows, 2 * cols), matrix(y, rows, cols));
    EXPECT_LT(worst(back(y, rows, cols), expected), 5e-3) << cols;

    const Tensor table = normal({50, cols}, DType::bf16);
    Batch batch = single_sequence({3, 49, 0});
    const DeviceBuffer out = cuda_->allocate(3 * cols * 2);
    const auto plan = cuda_->plan(batch);
    cuda_->embed(*plan, cuda_->prepare(table), {}, matrix(out, 3, cols));
    const Tensor embedded = back(out, 3, cols), rows_of_table = table.to(DType::f32);
    EXPECT_EQ(std::memcmp(embedded.data() + cols * 4, rows_of_table.data() + 49 * cols * 4,
                          static_cast<size_t>(cols) * 4),
              0);
    const std::vector<int32_t> wanted = {2, 0};
    const DeviceBuffer gathered = cuda_->allocate(2 * cols * 2);
    cuda_->gather_rows(matrix(out, 3, cols), wanted, matrix(gathered, 2, cols));
    const Tensor two = back(gathered, 2, cols);
    EXPECT_EQ(std::memcmp(two.data() + cols * 4, embedded.data(), static_cast<size_t>(cols) * 4),
              0);
  }
}

TEST_F(Cuda, FusedOperationsHaveTheBitsOfTheirParts) {
  const int64_t rows = 5, out = 192;
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int"})
    for (const int64_t cols : {576, 4672}) {  // from 4096 on, blocks share a row
      const PackedLinear packed = layer(format, out, cols, 64, false);
      const auto linear = cuda_->prepare(std::span(&packed, 1));
      const Tensor x = normal({rows, cols}, DType::bf16), other = normal({rows, cols}, DType::bf16);
      const DeviceBuffer gamma = cuda_->prepare(normal({cols}, DType::f32)), added = device(other);
      const DeviceBuffer normed = cuda_->allocate(rows * cols * 2);
      const DeviceBuffer y = cuda_->allocate(rows * out * 4);
      const Matrix to = matrix(y, rows, out, DType::f32), middle = matrix(normed, rows, cols);
      for (const bool add : {false, true}) {
        const DeviceBuffer a = device(x), b = device(x);
        const Matrix first = matrix(a, rows, cols), second = matrix(b, rows, cols);
        if (add) {
          cuda_->add_rms_norm(first, matrix(added, rows, cols), gamma, 1e-5f, middle);
        } else {
          cuda_->rms_norm(first, gamma, 1e-5f, middle);
        }
        cuda_->linear(*linear, middle, to);
        const Tensor expected = back(y, rows, out, DType::f32);
        cuda_->norm_linear(second, add ? matrix(added, rows, cols) : Matrix{}, gamma, 1e-5f, middle,
                           *linear, to);
        const Tensor got = back(y, rows, out, DType::f32);
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), rows * out * 4), 0) << format;
        EXPECT_EQ(worst(back(b, rows, cols), back(a, rows, cols)), 0) << format;
      }
      const DeviceBuffer gate_up = device(normal({rows, 2 * cols}, DType::bf16));
      cuda_->silu_mul(matrix(gate_up, rows, 2 * cols), middle);
      cuda_->linear(*linear, middle, to);
      const Tensor expected = back(y, rows, out, DType::f32);
      cuda_->silu_mul_linear(matrix(gate_up, rows, 2 * cols), middle, *linear, to);
      const Tensor got = back(y, rows, out, DType::f32);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), rows * out * 4), 0) << format;
    }
}

constexpr DType kCaches[] = {DType::bf16, DType::f8_e4m3};

// A step of three sequences: one prefill from nothing, one that continues, one decode, over
// scattered blocks.
TEST_F(Cuda, AttentionAgreesWithReference) {
  struct Heads {
    int64_t heads, kv_heads, head_dim;
  };
  for (const Heads& h :
       {Heads{9, 3, 64}, Heads{32, 8, 128}, Heads{14, 2, 64}, Heads{8, 4, 8}, Heads{16, 1, 128}}) {
    for (const int64_t context : {5, 300, 1500})
      for (const DType dtype : kCaches) {
        const AttentionShape shape{h.heads, h.kv_heads, h.head_dim,
                                   static_cast<float>(1 / std::sqrt(h.head_dim))};
        const int64_t blocks_of_one = (context + 15) / 16 + 1;
        const int64_t blocks = 3 * blocks_of_one;
        const int64_t elements = KvShape{blocks, h.kv_heads, h.head_dim}.elements();
        const Tensor cache = normal({elements}, DType::bf16);
        const DeviceBuffer kv_device = device_cache(cache, dtype);
        // The reference keeps f32 where others keep bf16.
        const Tensor wide = cache.to(DType::f32);
        const Tensor kept = dtype == DType::bf16 ? wide : wide.to(dtype);
        DeviceBuffer kv_host = reference_->allocate(kept.size_bytes());
        kv_host.dtype = kept.dtype();
        reference_->upload(kv_host, kept.raw());

        Batch batch;
        const std::array<int64_t, 3> rows = {4, 3, 1}, contexts = {4, context, context};
        for (size_t i = 0; i < 3; ++i) {
          Batch::Sequence sequence;
          sequence.first_row = batch.rows();
          sequence.rows = rows[i];
          sequence.context = contexts[i];
          for (int64_t b = 0; b < blocks_of_one; ++b)
            sequence.blocks.push_back(
                static_cast<int32_t>((b * 3 + static_cast<int64_t>(i)) * 7 % blocks));
          for (int64_t r = 0; r < rows[i]; ++r) {
            batch.tokens.push_back(0);
            batch.positions.push_back(static_cast<int32_t>(contexts[i] - rows[i] + r));
          }
          batch.sequences.push_back(sequence);
        }
        // 7 must not divide the number of blocks for the places to differ.
        if (blocks % 7 == 0) continue;
        const int64_t width = (h.heads + 2 * h.kv_heads) * h.head_dim, half = h.head_dim / 2;
        Tensor cosine(DType::f32, {1600 * half}), sine(DType::f32, {1600 * half});
        for (int64_t p = 0; p < 1600; ++p)
          for (int64_t d = 0; d < half; ++d) {
            const double angle =
                static_cast<double>(p) *
                std::pow(10000.0, -2.0 * static_cast<double>(d) / static_cast<double>(h.head_dim));
            cosine.as<float>()[static_cast<size_t>(p * half + d)] =
                static_cast<float>(std::cos(angle));
            sine.as<float>()[static_cast<size_t>(p * half + d)] =
                static_cast<float>(std::sin(angle));
          }
        const Tensor qkv = normal({8, width}, DType::bf16);
        Tensor qkv_host = qkv.to(DType::f32), expected(DType::f32, {8, h.heads * h.head_dim});
        const DeviceBuffer qkv_device = device(qkv);
        const DeviceBuffer out = cuda_->allocate(8 * h.heads * h.head_dim * 2);
        const auto plan = cuda_->plan(batch), plan_host = reference_->plan(batch);
        reference_->rope_and_store(*plan_host, shape, reference_->prepare(cosine),
                                   reference_->prepare(sine), host(qkv_host), kv_host);
        reference_->attention(*plan_host, shape, host(qkv_host), kv_host, host(expected));
        cuda_->rope_and_store(*plan, shape, cuda_->prepare(cosine), cuda_->prepare(sine),
                              matrix(qkv_device, 8, width), kv_device);
        cuda_->attention(*plan, shape, matrix(qkv_device, 8, width), kv_device,
                         matrix(out, 8, h.heads * h.head_dim));
        EXPECT_LT(worst(back(qkv_device, 8, width), qkv_host), 5e-3);
        // A rotated key that bf16 moves across the middle between two e4m3 numbers becomes the
        // other.
        EXPECT_LT(worst(back(out, 8, h.heads * h.head_dim), expected),
                  dtype == DType::bf16 ? 1e-2 : 0.1)
            << h.heads << " heads, " << h.kv_heads << " of keys, " << h.head_dim << " dimensions, "
            << context << " tokens";
      }
  }
}

TEST_F(Cuda, SummariesAgreeWithTheHost) {
  for (const int64_t vocabulary : {7, 1001, 49152, 128256}) {
    const int64_t rows = 5;
    Tensor logits = normal({rows, vocabulary}, DType::f32, 4);
    // Two equal largest ones: the lower id wins.
    logits.as<float>()[static_cast<size_t>(vocabulary - 1)] = logits.as<float>()[3] = 60;
    const DeviceBuffer buffer = device(logits);
    const std::vector<LogitQuery> queries = {
        {.target = 3, .normalize = true},
        {},
        {.target = 0, .normalize = true},
        {.target = static_cast<int32_t>(vocabulary - 1), .normalize = true},
        {.normalize = true}};
    const DeviceBuffer chosen = cuda_->allocate(rows * 4);
    const auto pending =
        cuda_->summarize_logits(matrix(buffer, rows, vocabulary, DType::f32), queries, chosen);
    const auto got = pending->wait();
    std::vector<int32_t> tokens(queries.size());
    cuda_->download(std::as_writable_bytes(std::span(tokens)), chosen.data.get());
    for (size_t r = 0; r < queries.size(); ++r) {
      const auto row = logits.matrix<float>().row(static_cast<int64_t>(r));
      const LogitSummary expected = summarize(row, queries[r]);
      EXPECT_EQ(got[r].argmax, expected.argmax);
      EXPECT_EQ(tokens[r], expected.argmax);
      EXPECT_EQ(got[r].target, expected.target);
      EXPECT_NEAR(got[r].log_sum_exp, expected.log_sum_exp, 1e-6);
    }
  }
}

// A prompt's rows, attended in tiles of any cut, have the bits that each has alone, and those that
// a cache in bf16 gives where it holds the numbers of one in e4m3.
TEST_F(Cuda, AttentionOfARowIsTheSameInAnyPiece) {
  for (const AttentionShape& shape :
       {AttentionShape{8, 2, 128, 0.09f}, AttentionShape{9, 3, 64, 0.125f},
        AttentionShape{14, 2, 64, 0.125f}, AttentionShape{16, 1, 128, 0.09f},
        AttentionShape{4, 2, 24, 0.2f}}) {
    constexpr int64_t kContext = 200;
    const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const int64_t out_width = shape.heads * shape.head_dim;
    const Tensor qkv = normal({kContext, width}, DType::bf16);
    const DeviceBuffer qkv_device = device(qkv);
    const Tensor numbers =
        normal({KvShape{13, shape.kv_heads, shape.head_dim}.elements()}, DType::bf16)
            .to(DType::f32)
            .to(DType::f8_e4m3);
    const DeviceBuffer out = cuda_->allocate(kContext * out_width * 2);
    // Rows [first, first + rows) of one sequence that ends with them.
    const auto attend = [&](const DeviceBuffer& kv, int64_t first, int64_t rows) {
      Batch batch;
      Batch::Sequence sequence;
      sequence.rows = rows;
      sequence.context = first + rows;
      for (int32_t b = 0; b < 13; ++b) sequence.blocks.push_back(b * 5 % 13);
      batch.sequences.push_back(sequence);
      for (int64_t r = 0; r < rows; ++r) {
        batch.tokens.push_back(0);
        batch.positions.push_back(static_cast<int32_t>(first + r));
      }
      const auto plan = cuda_->plan(batch);
      auto* q = static_cast<std::byte*>(qkv_device.data.get()) + first * width * 2;
      cuda_->attention(*plan, shape, {q, DType::bf16, rows, width}, kv,
                       matrix(out, rows, out_width));
      return back(out, rows, out_width);
    };
    const Tensor whole = attend(device_cache(numbers, DType::bf16), 0, kContext);
    for (const DType dtype : kCaches) {
      const DeviceBuffer kv = device_cache(numbers, dtype);
      for (const int64_t rows : {1, 2, 15, 33, 100, 200})
        for (int64_t first = 0; first + rows <= kContext; first += rows == 1 ? 13 : rows) {
          const Tensor part = attend(kv, first, rows);
          ASSERT_EQ(std::memcmp(part.data(), whole.data() + first * out_width * 4,
                                static_cast<size_t>(rows * out_width * 4)),
                    0)
              << shape.heads << " heads of " << shape.head_dim << ", cache in " << name_of(dtype)
              << ", rows " << first << " to " << first + rows;
        }
    }
  }
}

// A row among many has the bits of one alone.
TEST_F(Cuda, AttentionOfARowIsTheSameAmongMany) {
  for (const int64_t head_dim : {64, 128})
    for (const DType dtype : kCaches) {
      const AttentionShape shape{8, 2, head_dim, 0.09f};
      constexpr int64_t kRows = 300, kBlocks = 40;
      const int64_t width = 12 * head_dim, out_width = 8 * head_dim;
      const DeviceBuffer qkv = device(normal({kRows, width}, DType::bf16));
      const DeviceBuffer kv =
          device_cache(normal({KvShape{kBlocks, 2, head_dim}.elements()}, DType::bf16), dtype);
      const DeviceBuffer out = cuda_->allocate(kRows * out_width * 2);
      const auto attend = [&](int64_t first, int64_t rows) {
        Batch batch;
        for (int64_t r = 0; r < rows; ++r) {
          Batch::Sequence sequence;
          sequence.first_row = r;
          sequence.rows = 1;
          sequence.context = 1 + (first + r) * 37 % (kBlocks * 16);
          for (int32_t b = 0; b < kBlocks; ++b)
            sequence.blocks.push_back((b * 3 + static_cast<int32_t>(first + r)) % kBlocks);
          batch.tokens.push_back(0);
          batch.positions.push_back(static_cast<int32_t>(sequence.context) - 1);
          batch.sequences.push_back(std::move(sequence));
        }
        const auto plan = cuda_->plan(batch);
        auto* q = static_cast<std::byte*>(qkv.data.get()) + first * width * 2;
        cuda_->attention(*plan, shape, {q, DType::bf16, rows, width}, kv,
                         matrix(out, rows, out_width));
        return back(out, rows, out_width);
      };
      const Tensor together = attend(0, kRows);
      for (int64_t r = 0; r < kRows; r += 7)
        ASSERT_EQ(
            std::memcmp(attend(r, 1).data(), together.data() + r * out_width * 4, out_width * 4), 0)
            << "row " << r;
    }
}

// The first step of a shape runs directly, the second is recorded, the third replayed: each must
// see its own tokens, positions and context, and give the bits of a step that is never recorded.
TEST_F(Cuda, RecordedStepsSeeTheirOwnData) {
  constexpr int64_t kCols = 512, kVocabulary = 300;
  const AttentionShape shape{4, 2, 64, 0.125f};
  const DeviceBuffer table = cuda_->prepare(normal({kVocabulary, kCols}, DType::bf16));
  const PackedLinear packed = layer("w8a8-int", 96, kCols, 0, true);
  const auto linear = cuda_->prepare(std::span(&packed, 1));
  const Tensor cosine = normal({4096 * 32}, DType::f32), sine = normal({4096 * 32}, DType::f32);
  const DeviceBuffer c = cuda_->prepare(cosine), s = cuda_->prepare(sine);
  const int64_t elements = KvShape{400, 2, 64}.elements();
  const Tensor cache = normal({elements}, DType::bf16);
  const DeviceBuffer hidden = cuda_->allocate(3 * kCols * 2), out = cuda_->allocate(3 * 96 * 4);
  const DeviceBuffer attended = cuda_->allocate(3 * 256 * 2);
  const DeviceBuffer kv = cuda_->allocate(elements * 2);
  const auto step = [&](int number, bool recorded) {
    Batch batch;
    for (int32_t i = 0; i < 3; ++i) {
      Batch::Sequence sequence;
      sequence.first_row = i;
      sequence.rows = 1;
      sequence.context = 900 + 40 * number + i;  // across a multiple of the pieces of attention
      for (int32_t b = 0; b < 80; ++b) sequence.blocks.push_back((b * 3 + i + number) % 400);
      batch.tokens.push_back((i * 7 + number * 11) % kVocabulary);
      batch.positions.push_back(static_cast<int32_t>(sequence.context) - 1);
      batch.sequences.push_back(std::move(sequence));
    }
    cuda_->upload(kv, cache.raw());
    const auto plan = cuda_->plan(batch);
    const auto enqueue = [&] {
      cuda_->embed(*plan, table, {}, matrix(hidden, 3, kCols));
      cuda_->linear(*linear, matrix(hidden, 3, kCols), matrix(out, 3, 96, DType::f32));
      cuda_->rope_and_store(*plan, shape, c, s, matrix(hidden, 3, kCols), kv);
      cuda_->attention(*plan, shape, matrix(hidden, 3, kCols), kv, matrix(attended, 3, 256));
    };
    if (recorded) {
      cuda_->run(*plan, std::array<uint64_t, 1>{1}, enqueue);
    } else {
      enqueue();
    }
    return std::pair(back(out, 3, 96, DType::f32), back(attended, 3, 256));
  };
  for (int number = 0; number < 5; ++number) {
    const auto expected = step(number, false), got = step(number, true);
    EXPECT_EQ(std::memcmp(got.first.data(), expected.first.data(), 3 * 96 * 4), 0) << number;
    EXPECT_EQ(std::memcmp(got.second.data(), expected.second.data(), 3 * 256 * 4), 0) << number;
  }
}

// Steps enqueued without a wait between them: each takes tokens that the one before it chose, and
// its own summaries come down although others were enqueued after it.
TEST_F(Cuda, StepsFollowEachOtherOnTheDevice) {
  constexpr int64_t kCols = 64, kVocabulary = 1000, kRows = 3, kSteps = 12;
  // Row t of the table points at row next[t]: logits = 10 · one of them, through the head.
  Tensor table(DType::bf16, {kVocabulary, kCols}), head(DType::bf16, {kVocabulary, kCols});
  std::uniform_int_distribution<int> sign(0, 1);
  for (int64_t t = 0; t < kVocabulary; ++t)
    for (int64_t c = 0; c < kCols; ++c)
      head.as<bf16>()[static_cast<size_t>(t * kCols + c)] =
          to_bf16(sign(random_numbers) ? 1.0f : -1.0f);
  const auto next = [](int64_t token) { return (token * 37 + 11) % kVocabulary; };
  for (int64_t t = 0; t < kVocabulary; ++t)
    std::copy_n(head.as<bf16>().begin() + next(t) * kCols, kCols,
                table.as<bf16>().begin() + t * kCols);
  PackedLinear packed;
  packed.out = kVocabulary;
  packed.in = kCols;
  packed.weight = head;
  const auto linear = cuda_->prepare(std::span(&packed, 1));
  const DeviceBuffer embedding = cuda_->prepare(table), chosen = cuda_->allocate(kRows * 4);
  const DeviceBuffer hidden = cuda_->allocate(kRows * kCols * 2);
  const DeviceBuffer logits = cuda_->allocate(kRows * kVocabulary * 4);
  std::vector<std::unique_ptr<PendingSummaries>> steps;
  for (int64_t step = 0; step < kSteps; ++step) {
    Batch batch;
    for (int32_t r = 0; r < kRows; ++r) {
      Batch::Sequence sequence;
      sequence.first_row = r;
      sequence.rows = 1;
      sequence.context = step + 1;
      sequence.blocks = {r};
      batch.sequences.push_back(std::move(sequence));
      // The last row's token is always the host's; the others change places.
      batch.tokens.push_back(r == 2 ? static_cast<int32_t>(step) : r);
      batch.token_sources.push_back(step == 0 || r == 2 ? -1 : 1 - r);
      batch.positions.push_back(static_cast<int32_t>(step));
    }
    const auto plan = cuda_->plan(std::move(batch));
    cuda_->run(*plan, std::array<uint64_t, 1>{2}, [&] {
      cuda_->embed(*plan, embedding, chosen, matrix(hidden, kRows, kCols));
      cuda_->linear(*linear, matrix(hidden, kRows, kCols),
                    matrix(logits, kRows, kVocabulary, DType::f32));
    });
    steps.push_back(cuda_->summarize_logits(matrix(logits, kRows, kVocabulary, DType::f32),
                                            std::vector<LogitQuery>(kRows), chosen));
  }
  std::array<int64_t, 2> tokens = {0, 1};
  for (int64_t step = 0; step < kSteps; ++step) {
    const auto got = steps[static_cast<size_t>(step)]->wait();
    ASSERT_EQ(got.size(), size_t{kRows});
    if (step > 0) std::swap(tokens[0], tokens[1]);
    for (size_t r = 0; r < 2; ++r) {
      tokens[r] = next(tokens[r]);
      EXPECT_EQ(got[r].argmax, tokens[r]) << "step " << step << ", row " << r;
    }
    EXPECT_EQ(got[2].argmax, next(step)) << "step " << step;
  }
}

TEST_F(Cuda, OutOfMemoryIsAnErrorThatSaysHowMuch) {
  try {
    cuda_->allocate(int64_t{1} << 50);
    FAIL() << "a pebibyte was allocated";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("out of GPU memory"), std::string::npos);
  }
  const DeviceBuffer after = cuda_->allocate(1 << 20);
  EXPECT_NE(after.data, nullptr);
}

}  // namespace
}  // namespace narrow::ops
