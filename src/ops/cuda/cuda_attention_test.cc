// Attention on the device: against `reference`, and a row's bits whatever stands beside it.
#include <numeric>

#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

constexpr DType kCaches[] = {DType::bf16, DType::f8_e4m3};

// A step of three sequences: one prefill from nothing, one that continues, one decode, over
// scattered blocks.
TEST_F(Cuda, AttentionAgreesWithReference) {
  struct Heads {
    int64_t heads, kv_heads, head_dim;
  };
  for (const Heads& h : {Heads{9, 3, 64}, Heads{32, 8, 128}, Heads{64, 8, 128}, Heads{128, 8, 128},
                         Heads{14, 2, 64}, Heads{8, 4, 8}, Heads{16, 1, 128}}) {
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

// A prompt's rows, attended in tiles of any cut, have the bits that each has alone, and those that
// a cache in bf16 gives where it holds the numbers of one in e4m3. Scores of a large scale have
// other references in almost every piece.
TEST_F(Cuda, AttentionOfARowIsTheSameInAnyPiece) {
  for (const AttentionShape& shape :
       {AttentionShape{8, 2, 128, 0.09f}, AttentionShape{9, 3, 64, 0.125f},
        AttentionShape{14, 2, 64, 0.125f}, AttentionShape{16, 1, 128, 0.09f},
        AttentionShape{16, 1, 64, 0.125f}, AttentionShape{2, 2, 64, 0.125f},
        AttentionShape{8, 2, 128, 3.0f}, AttentionShape{9, 3, 64, 3.0f},
        AttentionShape{4, 2, 24, 0.2f}}) {
    constexpr int64_t kContext = 450;  // a row is walked until it sees seven pieces, of e4m3 four
    constexpr int32_t kBlocks = 29;
    const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const int64_t out_width = shape.heads * shape.head_dim;
    const Tensor qkv = normal({kContext, width}, DType::bf16);
    const DeviceBuffer qkv_device = device(qkv);
    const Tensor numbers =
        normal({KvShape{kBlocks, shape.kv_heads, shape.head_dim}.elements()}, DType::bf16)
            .to(DType::f32)
            .to(DType::f8_e4m3);
    const DeviceBuffer out = cuda_->allocate(kContext * out_width * 2);
    // Rows [first, first + rows) of one sequence that ends with them.
    const auto attend = [&](const DeviceBuffer& kv, int64_t first, int64_t rows) {
      Batch batch;
      Batch::Sequence sequence;
      sequence.rows = rows;
      sequence.context = first + rows;
      for (int32_t b = 0; b < kBlocks; ++b) sequence.blocks.push_back(b * 5 % kBlocks);
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

// Rows of prompts whose keys and values the step itself has stored, taken out of it and attended
// alone, as the last layer does: their kernels read old keys before they wait for the kernel in
// front of them, and here all keys are new. On 132 processors a block attends up to two parts of
// the first prompts, a dozen short ones of the third and ten long ones of the fifth.
TEST_F(Cuda, AttentionOfSomeRowsSeesWhatTheirStepStored) {
  using Prompts = std::vector<int32_t>;
  struct Case {
    Prompts prompts;
    bool last_alone;  // of each prompt's rows the last one is taken
  };
  // Rows that are walked, and, of the second case's few heads and of the fourth, pieces of rows.
  for (const auto& [prompts, last_alone] :
       {Case{Prompts(2, 450), false}, Case{Prompts(3, 450), true}, Case{Prompts(40, 150), false},
        Case{Prompts(1, 1100), true}, Case{Prompts(5, 1100), false},
        Case{Prompts{700, 5, 450, 33, 1, 2, 300}, false}})
    for (const DType dtype : kCaches)
      for (const AttentionShape& shape :
           {AttentionShape{32, 8, 128, 0.09f}, AttentionShape{64, 8, 128, 0.09f},
            AttentionShape{9, 3, 64, 0.125f}, AttentionShape{14, 2, 64, 0.125f}}) {
        const int64_t longest = *std::max_element(prompts.begin(), prompts.end());
        const int64_t rows = std::accumulate(prompts.begin(), prompts.end(), int64_t{0});
        const int64_t out_width = shape.heads * shape.head_dim;
        const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        Batch batch;
        std::vector<int32_t> taken;
        int32_t blocks = 0;
        for (const int32_t prompt : prompts) {
          Batch::Sequence sequence;
          const auto first = static_cast<int32_t>(batch.rows());
          sequence.first_row = first;
          sequence.rows = sequence.context = prompt;
          for (int32_t b = 0; b < (prompt + 15) / 16; ++b) sequence.blocks.push_back(blocks++);
          for (int32_t r = 0; r < prompt; ++r) batch.positions.push_back(r);
          batch.tokens.resize(batch.positions.size());
          batch.sequences.push_back(std::move(sequence));
          // One of each tile, and the last.
          for (int32_t r = 7; r < prompt - 1 && !last_alone; r += 32) taken.push_back(first + r);
          taken.push_back(first + prompt - 1);
        }
        const Tensor qkv = normal({rows, width}, DType::bf16);
        const Tensor nothing(DType::bf16,
                             {KvShape{blocks, shape.kv_heads, shape.head_dim}.elements()});
        const auto table = [&] {
          return cuda_->prepare(normal({longest * shape.head_dim / 2}, DType::f32));
        };
        const DeviceBuffer cosine = table(), sine = table();
        const DeviceBuffer out = cuda_->allocate(rows * out_width * 2);
        const auto count = static_cast<int64_t>(taken.size());
        const DeviceBuffer some_qkv = cuda_->allocate(count * width * 2);
        const auto attend = [&](bool some) {
          const DeviceBuffer kv = device_cache(nothing, dtype), stored = device(qkv);
          const auto plan = cuda_->plan(batch), some_plan = cuda_->plan(rows_of(batch, taken));
          cuda_->rope_and_store(*plan, shape, cosine, sine, matrix(stored, rows, width), kv);
          if (some) {
            cuda_->gather_rows(matrix(stored, rows, width), taken, matrix(some_qkv, count, width));
            cuda_->attention(*some_plan, shape, matrix(some_qkv, count, width), kv,
                             matrix(out, count, out_width));
            return back(out, count, out_width);
          }
          cuda_->attention(*plan, shape, matrix(stored, rows, width), kv,
                           matrix(out, rows, out_width));
          return back(out, rows, out_width);
        };
        const Tensor whole = attend(false);
        for (int repetition = 0; repetition < 5; ++repetition) {
          const Tensor some = attend(true), again = attend(false);
          ASSERT_EQ(std::memcmp(again.data(), whole.data(), whole.size_bytes()), 0)
              << rows << " rows, " << shape.heads << " heads, cache in " << name_of(dtype);
          for (int64_t i = 0; i < count; ++i)
            ASSERT_EQ(std::memcmp(some.data() + i * out_width * 4,
                                  whole.data() + taken[static_cast<size_t>(i)] * out_width * 4,
                                  static_cast<size_t>(out_width * 4)),
                      0)
                << "row " << taken[static_cast<size_t>(i)] << " of " << rows << ", " << shape.heads
                << " heads, cache in " << name_of(dtype);
        }
      }
}

// A row among many has the bits of one alone.
TEST_F(Cuda, AttentionOfARowIsTheSameAmongMany) {
  for (const AttentionShape& shape :
       {AttentionShape{8, 2, 64, 0.09f}, AttentionShape{8, 2, 128, 0.09f},
        AttentionShape{32, 2, 64, 0.09f}, AttentionShape{32, 2, 128, 0.09f}})
    for (const DType dtype : kCaches) {
      constexpr int64_t kRows = 300, kBlocks = 40;
      const int64_t width = (shape.heads + 4) * shape.head_dim;
      const int64_t out_width = shape.heads * shape.head_dim;
      const DeviceBuffer qkv = device(normal({kRows, width}, DType::bf16));
      const DeviceBuffer kv = device_cache(
          normal({KvShape{kBlocks, 2, shape.head_dim}.elements()}, DType::bf16), dtype);
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
      // Alone and by threes in pieces where one sees eight of them, else walked.
      for (const int64_t rows : {1, 3, 40, 100})
        for (int64_t first = 0; first + rows <= kRows; first += std::max<int64_t>(rows, 7))
          ASSERT_EQ(std::memcmp(attend(first, rows).data(), together.data() + first * out_width * 4,
                                static_cast<size_t>(rows * out_width * 4)),
                    0)
              << "rows " << first << " to " << first + rows;
    }
}

}  // namespace
}  // namespace narrow::ops
