// Products and operations of rows on the device, against `reference`.
#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

struct Shape {
  int64_t out, in;
};

TEST_F(Cuda, LinearAgreesWithReference) {
  // SmolLM2, Qwen2.5, odd vocabularies, widths that no tile divides, or the copy engine takes. Of
  // Llama's: cuda_layers_test.cc.
  const Shape shapes[] = {{192, 576},  {1536, 576}, {576, 1536}, {1024, 4096}, {4096, 1024},
                          {896, 4864}, {1001, 576}, {64, 172},   {4096, 100}};
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
        const bool fp8 = std::string(c.format) == "w8a8-fp" && !portable_;
        const double of_sums = fp8 ? e4m3_error(shape.in) : 2e-5;
        EXPECT_LT(worst(run(*linear, x, DType::f32), expected), of_sums)
            << c.format << " group " << c.group << ", " << shape.out << " from " << shape.in
            << ", rows " << rows;
        EXPECT_LT(worst(run(*linear, x, DType::bf16), expected), 8e-3 + of_sums)
            << c.format << " as bf16, rows " << rows;
      }
    }
  }
}

TEST_F(Cuda, ARowIsTheSameAloneAndInAnyBatch) {
  struct Case {
    int64_t out, in, rows;
  };
  // Each number of rows below has a tile of its own, and so have few and many outputs; the other
  // cases are for tiles that 132 processors would not choose for the first two, 768 rows for tiles
  // of two widths, and 8320 inputs for those that two blocks share.
  for (const Case& c :
       {Case{1024, 4096, 4200}, Case{17000, 1024, 300}, Case{28672, 256, 300}, Case{6144, 256, 256},
        Case{8448, 256, 256}, Case{4096, 2048, 256}, Case{6144, 256, 768}, Case{192, 8320, 300}}) {
    for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"}) {
      const PackedLinear packed = layer(format, c.out, c.in, 128, false);
      const auto linear = cuda_->prepare(std::span(&packed, 1));
      const Tensor x = normal({c.rows, c.in}, DType::bf16);
      const auto rows_of = [&](int64_t first, int64_t count, DType dtype) {
        Tensor rows(DType::bf16, {count, c.in});
        std::memcpy(rows.data(), x.data() + first * c.in * 2,
                    static_cast<size_t>(count * c.in * 2));
        return run(*linear, rows, dtype);
      };
      const auto expect_same = [&](int64_t first, int64_t count, DType dtype,
                                   const Tensor& together) {
        if (first + count > c.rows) return;
        const Tensor part = rows_of(first, count, dtype);
        EXPECT_EQ(std::memcmp(part.data(), together.data() + first * c.out * 4,
                              static_cast<size_t>(count * c.out * 4)),
                  0)
            << format << ", " << c.out << " outputs, " << count << " rows from " << first;
      };
      const Tensor together = rows_of(0, c.rows, DType::f32);
      for (int64_t r : {0, 8, 31, 32, 69})
        for (int64_t count : {1, 3, 16, 20, 64, 72, 130, 300})
          expect_same(r, count, DType::f32, together);
      const Tensor rounded = rows_of(0, c.rows, DType::bf16);
      for (int64_t count : {40, 72, 100, 130, 160, 200})
        expect_same(3, count, DType::bf16, rounded);
    }
  }
}

TEST_F(Cuda, TilesOfThousandsOfRowsAgreeWithReference) {
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-awq"}) {
    const PackedLinear packed = layer(format, 1992, 224, 32, false);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    std::vector<int64_t> many = {1500};
    // 132 processors take these in 4-bit tiles of 160 rows.
    if (packed.scheme.weights && !packed.scheme.inputs) many.push_back(2500);
    for (const int64_t rows : many) {
      const Tensor x = normal({rows, 224}, DType::bf16);
      const Tensor expected = expected_product(packed, x);
      const bool fp8 = std::string(format) == "w8a8-fp" && !portable_;
      const double of_sums = fp8 ? e4m3_error(224) : 2e-5;
      EXPECT_LT(worst(run(*linear, x, DType::f32), expected), of_sums) << format;
      EXPECT_LT(worst(run(*linear, x, DType::bf16), expected), 8e-3 + of_sums)
          << format << " as bf16";
    }
  }
}

TEST_F(Cuda, ColumnsInAnyOrderOfGroupsRunAs4Bit) {
  // Widths of one block of columns to gather, and of more.
  for (const Shape& shape : {Shape{1024, 4096}, {576, 1536}, {1001, 576}, {192, 14336}})
    for (const char* format : {"w4a16-int", "w4a16-awq"})
      for (const int64_t group : {32, 128}) {
        if (shape.in % group != 0) continue;
        PackedLinear packed = layer(format, shape.out, shape.in, group, true);
        shuffle_groups(packed);
        const auto linear = cuda_->prepare(std::span(&packed, 1));
        const std::string where = std::string(format) + " group " + std::to_string(group) + ", " +
                                  std::to_string(shape.out) + " from " + std::to_string(shape.in);
        EXPECT_LT(linear->weight_bytes(), shape.out * shape.in) << where;
        constexpr int64_t kRows = 300;
        const Tensor x = normal({kRows, shape.in}, DType::bf16);
        const Tensor expected = expected_product(packed, x);
        const Tensor together = run(*linear, x, DType::f32);
        EXPECT_LT(worst(together, expected), 2e-5) << where;
        EXPECT_LT(worst(run(*linear, x, DType::bf16), expected), 8e-3) << where << " as bf16";
        for (const int64_t rows : {1, 3, 8, 33}) {
          Tensor first(DType::bf16, {rows, shape.in});
          std::memcpy(first.data(), x.data(), static_cast<size_t>(first.size_bytes()));
          const Tensor got = run(*linear, first, DType::f32);
          EXPECT_EQ(std::memcmp(got.data(), together.data(), static_cast<size_t>(got.size_bytes())),
                    0)
              << where << ", rows " << rows;
        }
      }
}

TEST_F(Cuda, GroupsOfUnequalSizesRunAsBf16) {
  PackedLinear packed = layer("w4a16-awq", 192, 576, 32, false);
  shuffle_groups(packed);
  const auto groups = packed.group_index.as<int32_t>();
  *std::find(groups.begin(), groups.end(), 0) = 1;
  const auto linear = cuda_->prepare(std::span(&packed, 1));
  EXPECT_GE(linear->weight_bytes(), 2 * 192 * 576);
  for (const int64_t rows : {1, 40}) {
    const Tensor x = normal({rows, 576}, DType::bf16);
    EXPECT_LT(worst(run(*linear, x, DType::f32), expected_product(packed, x)), 2e-5) << rows;
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

// Each input counts: sums that are no longer than what Hopper's tensor cores keep are exact.
TEST_F(Cuda, ShortSumsOfE4m3AreExact) {
  std::bernoulli_distribution negative;
  for (const int64_t in : {96, 576, 4096, 14336}) {
    PackedLinear packed = layer("w8a8-fp", 136, in, 0, false);
    for (f8_e4m3& code : packed.weight.as<f8_e4m3>())
      code = to_f8_e4m3(negative(random_numbers) ? -1.0f : 1.0f);
    for (bf16& scale : packed.scale.as<bf16>()) scale = to_bf16(1);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    for (const int64_t rows : {1, 9, 40, 64, 100, 130, 300}) {
      // Codes of 448 and -448, so multiples of 64 below 2^19.
      Tensor x(DType::bf16, {rows, in});
      for (bf16& value : x.as<bf16>()) value = to_bf16(negative(random_numbers) ? -1.0f : 1.0f);
      EXPECT_LT(worst(run(*linear, x, DType::f32), expected_product(packed, x)), 1e-6)
          << in << " inputs, " << rows << " rows";
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

TEST_F(Cuda, PartsWithColumnsInOneOrderGatherThemOnce) {
  constexpr int64_t kIn = 576, kIndexBytes = kIn * 4;
  std::vector<PackedLinear> parts;
  for (const int64_t out : {576, 192, 192})
    parts.push_back(layer("w4a16-awq", out, kIn, 32, out == 576));
  shuffle_groups(parts[0]);
  parts[1].group_index = parts[2].group_index = parts[0].group_index;
  int64_t apart = 0;
  for (const PackedLinear& part : parts)
    apart += cuda_->prepare(std::span(&part, 1))->weight_bytes();
  const auto check = [&](int64_t orders) {
    const auto linear = cuda_->prepare(parts), expected_layer = reference_->prepare(parts);
    EXPECT_EQ(linear->weight_bytes(), apart - (3 - orders) * kIndexBytes);
    const Tensor x = normal({5, kIn}, DType::bf16);
    Tensor wide = x.to(DType::f32), expected(DType::f32, {5, linear->out()});
    reference_->linear(*expected_layer, host(wide), host(expected));
    EXPECT_LT(worst(run(*linear, x, DType::f32), expected), 2e-5) << orders << " orders";
  };
  check(1);
  shuffle_groups(parts[2]);
  check(2);
}

TEST_F(Cuda, ElementwiseAgreesWithReference) {
  // A row of Llama-3.1 405B's perceptron, and the widest that there are kernels for.
  for (const int64_t cols : {64, 576, 4096, 8192, 16384, 53248, 65536, 100, 16383}) {
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

    cuda_->add(matrix(a, rows, cols), matrix(b, rows, cols));
    Tensor wide_other = other.to(DType::f32);
    reference_->add(host(wide), host(wide_other));
    EXPECT_LT(worst(back(a, rows, cols), wide), 5e-3) << cols;

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
  const std::pair<const char*, bool> formats[] = {{"bf16", false},
                                                  {"w8a8-fp", false},
                                                  {"w8a8-int", false},
                                                  {"w4a16-int", false},
                                                  {"w4a16-int", true}};
  for (const auto& [format, shuffled] : formats)
    for (const int64_t cols : {576, 4672}) {  // from 4096 on, blocks share a row
      PackedLinear packed = layer(format, out, cols, 64, false);
      if (shuffled) shuffle_groups(packed);
      const auto linear = cuda_->prepare(std::span(&packed, 1));
      const DeviceBuffer x = device(normal({rows, cols}, DType::bf16));
      const DeviceBuffer gamma = cuda_->prepare(normal({cols}, DType::f32));
      const DeviceBuffer normed = cuda_->allocate(rows * cols * 2);
      const DeviceBuffer y = cuda_->allocate(rows * out * 4);
      const Matrix to = matrix(y, rows, out, DType::f32), middle = matrix(normed, rows, cols);
      cuda_->rms_norm(matrix(x, rows, cols), gamma, 1e-5f, middle);
      cuda_->linear(*linear, middle, to);
      const Tensor expected = back(y, rows, out, DType::f32);
      cuda_->norm_linear(matrix(x, rows, cols), gamma, 1e-5f, middle, *linear, to);
      const Tensor got = back(y, rows, out, DType::f32);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), rows * out * 4), 0) << format;
    }
}

// Norms, with the quantization behind them, that start while the product in front ends: a row has
// the bits that it has among many, whose kernels are others.
TEST_F(Cuda, NormsBehindProductsHaveTheSameBitsAmongMany) {
  constexpr int64_t kRows = 1100, kInputs = 320, kOutputs = 192;
  struct Case {
    const char* format;
    int64_t hidden;
  };
  // Widths whose norms are kernels of their own.
  std::vector<Case> cases = {{"bf16", 100}, {"w8a8-int", 100}};
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int"})
    for (const int64_t hidden : {4096, 8192}) cases.push_back({format, hidden});
  for (const auto& [format, hidden] : cases) {
    const PackedLinear in_front = layer(format, hidden, kInputs, 64, false);
    const PackedLinear behind = layer(format, kOutputs, hidden, 64, false);
    const auto first = cuda_->prepare(std::span(&in_front, 1));
    const auto second = cuda_->prepare(std::span(&behind, 1));
    const DeviceBuffer x = device(normal({kRows, kInputs}, DType::bf16));
    const DeviceBuffer gamma = cuda_->prepare(normal({hidden}, DType::f32));
    const Tensor before = normal({kRows, hidden}, DType::bf16);
    const auto run = [&](int64_t rows) {
      const DeviceBuffer residual = device(before);
      const DeviceBuffer product = cuda_->allocate(rows * hidden * 2);
      const DeviceBuffer normed = cuda_->allocate(rows * hidden * 2);
      const DeviceBuffer y = cuda_->allocate(rows * kOutputs * 4);
      cuda_->linear_add(*first, matrix(x, rows, kInputs), matrix(product, rows, hidden),
                        matrix(residual, rows, hidden));
      cuda_->norm_linear(matrix(residual, rows, hidden), gamma, 1e-5f, matrix(normed, rows, hidden),
                         *second, matrix(y, rows, kOutputs, DType::f32));
      return back(y, rows, kOutputs, DType::f32);
    };
    const Tensor all = run(kRows);
    for (const int64_t rows : {1, 8, 33, 64, 65, 128, 256, 300, 1024})
      EXPECT_EQ(std::memcmp(run(rows).data(), all.data(), rows * kOutputs * 4), 0)
          << format << ", " << hidden << " numbers, " << rows << " rows";
  }
}

// Whole tiles and cut ones, of widths that no tile divides, and, with 1100 rows by 4096, of two.
TEST_F(Cuda, AddedProductsHaveTheBitsOfTheirParts) {
  struct Case {
    const char* format;
    int64_t out, in, group;
  };
  std::vector<Case> cases = {
      {"bf16", 192, 100, 0}};  // of a width that the copy engine does not take
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"})
    for (const Case& c :
         {Case{format, 576, 8320, 32}, Case{format, 596, 320, 32}, Case{format, 4096, 2048, 128}})
      cases.push_back(c);
  for (const auto& [format, out, in, group] : cases) {
    const PackedLinear packed = layer(format, out, in, group, false);
    const auto linear = cuda_->prepare(std::span(&packed, 1));
    for (const int64_t rows : {1, 7, 20, 64, 72, 160, 256, 768, 1100, 2500}) {
      const DeviceBuffer x = device(normal({rows, in}, DType::bf16));
      Tensor before = normal({rows, out}, DType::bf16);
      // Numbers whose bits are few: subnormal ones, and both zeros.
      auto* const bits = reinterpret_cast<uint16_t*>(before.data());
      for (int64_t i = 0; i < before.elements(); i += 3) bits[i] &= 0x803f;
      const DeviceBuffer a = device(before), b = device(before);
      const DeviceBuffer product = cuda_->allocate(rows * out * 2);
      const Matrix y = matrix(product, rows, out);
      cuda_->Backend::linear_add(*linear, matrix(x, rows, in), y, matrix(a, rows, out));
      cuda_->linear_add(*linear, matrix(x, rows, in), y, matrix(b, rows, out));
      const Tensor expected = back(a, rows, out), got = back(b, rows, out);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), rows * out * 4), 0)
          << format << " " << in << " to " << out << ", " << rows << " rows";
    }
  }
}

TEST_F(Cuda, PerceptronsHaveTheBitsOfTheirParts) {
  struct Shape {
    int64_t hidden, intermediate;
  };
  // Of many rows, or outputs, the activation is part of the product. Widths that tiles of no size
  // divide, and two, of 8328 and in four bits of 352, that do not join gate and up. 4848: on 132
  // processors 1161 rows of bf16 are taken in tiles of 256.
  const std::vector<Shape> any = {{576, 1488}, {136, 336},  {136, 4848},  {136, 8336},
                                  {128, 8336}, {128, 8328}, {256, 14336}, {128, 53248}},
                           of_groups = {{576, 1472}, {128, 352}, {256, 14336}};
  for (const char* format : {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"})
    for (const Shape& shape : std::string_view(format).starts_with("w4") ? of_groups : any)
      for (const bool bias : {false, true}) {
        const auto [hidden, inner] = shape;
        const int64_t group = hidden % 128 == 0 && !bias ? 128 : 32;  // which has other kernels
        const PackedLinear parts[] = {layer(format, inner, hidden, group, bias),
                                      layer(format, inner, hidden, group, bias)};
        const PackedLinear last = layer(format, hidden, inner, 32, bias);
        const auto gate_up = cuda_->prepare(parts), down = cuda_->prepare(std::span(&last, 1));
        const DeviceBuffer gamma = cuda_->prepare(normal({hidden}, DType::f32));
        std::vector<int64_t> many = {1024, 1161};
        if (inner > 8192) many.insert(many.end(), {1, 20, 64, 65, 130, 256, 300, 640});
        for (const int64_t rows : many)
          EXPECT_TRUE(
              has_bits_of_parts(*gate_up, *down, gamma, normal({rows, hidden}, DType::bf16)))
              << format << " " << hidden << " to " << inner << ", " << rows << " rows";
      }
}

}  // namespace
}  // namespace narrow::ops
