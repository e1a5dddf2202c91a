// Whole steps on the device: their summaries, their recordings, one behind the other.
#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

TEST_F(Cuda, SummariesAgreeWithTheHost) {
  for (const int64_t vocabulary : {7, 1001, 49152, 128256}) {
    const int64_t rows = 5;
    Tensor logits = normal({rows, vocabulary}, DType::f32, 4);
    // Two equal largest ones: the lower id wins.
    logits.as<float>()[static_cast<size_t>(vocabulary - 1)] = logits.as<float>()[3] = 60;
    const DeviceBuffer buffer = device(logits);
    const std::vector<LogitQuery> queries = {
        {.target = 3, .normalize = true, .best_count = 5},
        {},
        {.target = 0, .normalize = true, .best_count = kMostBest},
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
      EXPECT_EQ(got[r].chosen_logit, expected.chosen_logit);
      const auto best = static_cast<size_t>(std::min<int64_t>(queries[r].best_count, vocabulary));
      for (size_t i = 0; i < best; ++i) {
        EXPECT_EQ(got[r].best[i].id, expected.best[i].id) << vocabulary << ", " << i;
        EXPECT_EQ(got[r].best[i].logit, expected.best[i].logit);
      }
      EXPECT_NEAR(got[r].log_sum_exp, expected.log_sum_exp, 1e-6);
    }
  }
}

TEST_F(Cuda, DivergencesAgreeWithTheHost) {
  for (const int64_t vocabulary : {7, 1001, 49152, 128256}) {
    const int64_t rows = 5;
    Tensor p = normal({rows, vocabulary}, DType::f32, 4);
    // Near, as a variant's logits are, and in the last row far.
    Tensor q = normal({rows, vocabulary}, DType::f32, 0.1f);
    for (int64_t r = 0; r + 1 < rows; ++r)
      for (int64_t i = 0; i < vocabulary; ++i) q.matrix<float>()(r, i) += p.matrix<float>()(r, i);
    // What p never has counts nothing, what q alone never has without end.
    p.matrix<float>()(1, 2) = p.matrix<float>()(3, 2) = -INFINITY;
    q.matrix<float>()(2, 4) = q.matrix<float>()(3, 2) = -INFINITY;
    const DeviceBuffer of_p = device(p), of_q = device(q);
    std::vector<int32_t> targets = {0, 3, 6, 1, static_cast<int32_t>(vocabulary - 1)};
    const auto got = cuda_->compare_logits(matrix(of_p, rows, vocabulary, DType::f32),
                                           matrix(of_q, rows, vocabulary, DType::f32), targets);
    for (size_t r = 0; r < targets.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const LogitDivergence expected =
          divergence(p.matrix<float>().row(row), q.matrix<float>().row(row), targets[r]);
      EXPECT_GT(expected.kl, 0);
      EXPECT_EQ(std::isinf(expected.kl), r == 2);
      if (r == 2) {
        EXPECT_EQ(got[r].kl, expected.kl);
      } else {
        EXPECT_NEAR(got[r].kl, expected.kl, 1e-6 * (1 + expected.kl));
      }
      EXPECT_NEAR(got[r].nll_p, expected.nll_p, 1e-6);
      EXPECT_NEAR(got[r].nll_q, expected.nll_q, 1e-6);
      EXPECT_EQ(got[r].same_argmax, expected.same_argmax);
    }
    targets[2] = static_cast<int32_t>(vocabulary);
    EXPECT_THROW(cuda_->compare_logits(matrix(of_p, rows, vocabulary, DType::f32),
                                       matrix(of_q, rows, vocabulary, DType::f32), targets),
                 Error);
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
  PackedLinear shuffled = layer("w4a16-int", 96, kCols, 128, true);
  shuffle_groups(shuffled);
  const auto in_order = cuda_->prepare(std::span(&shuffled, 1));
  const Tensor cosine = normal({4096 * 32}, DType::f32), sine = normal({4096 * 32}, DType::f32);
  const DeviceBuffer c = cuda_->prepare(cosine), s = cuda_->prepare(sine);
  const int64_t elements = KvShape{400, 2, 64}.elements();
  const Tensor cache = normal({elements}, DType::bf16);
  const DeviceBuffer hidden = cuda_->allocate(3 * kCols * 2), out = cuda_->allocate(3 * 96 * 4);
  const DeviceBuffer other_out = cuda_->allocate(3 * 96 * 4);
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
      cuda_->linear(*in_order, matrix(hidden, 3, kCols), matrix(other_out, 3, 96, DType::f32));
      cuda_->rope_and_store(*plan, shape, c, s, matrix(hidden, 3, kCols), kv);
      cuda_->attention(*plan, shape, matrix(hidden, 3, kCols), kv, matrix(attended, 3, 256));
    };
    if (recorded) {
      cuda_->run(*plan, std::array<uint64_t, 1>{1}, enqueue);
    } else {
      enqueue();
    }
    return std::array{back(out, 3, 96, DType::f32), back(other_out, 3, 96, DType::f32),
                      back(attended, 3, 256)};
  };
  for (int number = 0; number < 5; ++number) {
    const auto expected = step(number, false), got = step(number, true);
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_EQ(std::memcmp(got[i].data(), expected[i].data(),
                            static_cast<size_t>(expected[i].size_bytes())),
                0)
          << "step " << number << ", result " << i;
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
