// A decoder in one kernel against the same operation by operation: the same bits.
#include "ops/cuda/cuda_fixture.h"

namespace narrow::ops {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr int64_t kBlocks = 300, kVocabulary = 5008;  // the last tile of outputs is a lone one

struct Widths {
  int64_t hidden, heads, kv_heads, head_dim, intermediate;
  int64_t attended() const { return heads * head_dim; }
  int64_t qkv() const { return (heads + 2 * kv_heads) * head_dim; }
};

class CudaDecoder : public Cuda {
 protected:
  struct OneLayer {
    std::unique_ptr<Linear> qkv, o, gate_up, down;
    DeviceBuffer input_norm, post_attention_norm;
    Tensor cache;
    LayerParts parts() const {
      return {qkv.get(), o.get(), gate_up.get(), down.get(), &input_norm, &post_attention_norm};
    }
  };
  struct Outcome {
    Tensor logits;
    std::vector<Tensor> caches;
  };

  std::unique_ptr<Linear> product(const std::string& format, int64_t out, int64_t in, bool bias) {
    // Large ones repeat: making numbers takes longer than all else.
    constexpr int64_t kPeriod = 4093;
    const PackedLinear packed =
        out * in <= (int64_t{1} << 24)
            ? layer(format, out, in, 128, bias)
            : repeated(layer(format, std::min(out, kPeriod), in, 128, bias), out);
    return cuda_->prepare(std::span(&packed, 1));
  }

  void make(const std::string& format, const Widths& w, int layers) {
    layers_.clear();
    const KvShape cache{kBlocks, w.kv_heads, w.head_dim};
    for (int i = 0; i < layers; ++i) {
      OneLayer one;
      one.qkv = product(format, w.qkv(), w.hidden, true);
      one.o = product(format, w.hidden, w.attended(), false);
      one.gate_up = product(format, 2 * w.intermediate, w.hidden, i == 0);
      one.down = product(format, w.hidden, w.intermediate, false);
      one.input_norm = cuda_->prepare(normal({w.hidden}, DType::f32));
      one.post_attention_norm = cuda_->prepare(normal({w.hidden}, DType::f32));
      one.cache = normal({cache.elements()}, DType::bf16);
      layers_.push_back(std::move(one));
    }
    final_norm_ = cuda_->prepare(normal({w.hidden}, DType::f32));
    head_ = product("bf16", kVocabulary, w.hidden, false);
    shape_ = {w.heads, w.kv_heads, w.head_dim, 1 / std::sqrt(static_cast<float>(w.head_dim))};
    parts_ = {{}, shape_, kEpsilon, &final_norm_, head_.get()};
    for (const OneLayer& one : layers_) parts_.layers.push_back(one.parts());
    cosine_ = cuda_->prepare(normal({kBlocks * 16 * w.head_dim / 2}, DType::f32));
    sine_ = cuda_->prepare(normal({kBlocks * 16 * w.head_dim / 2}, DType::f32));
    input_ = normal({1, w.hidden}, DType::bf16);
  }

  Outcome run(const Widths& w, int64_t context, DType kv_dtype, const PreparedDecoder* whole) {
    Batch batch;
    Batch::Sequence sequence;
    sequence.rows = 1;
    sequence.context = context;
    for (int32_t b = 0; b < kBlocks; ++b) sequence.blocks.push_back(b * 7 % kBlocks);
    batch.tokens = {0};
    batch.positions = {static_cast<int32_t>(context) - 1};
    batch.sequences.push_back(std::move(sequence));
    const auto plan = cuda_->plan(std::move(batch));
    std::vector<DeviceBuffer> caches;
    for (const OneLayer& one : layers_) caches.push_back(device_cache(one.cache, kv_dtype));
    const DeviceBuffer residual = device(input_);
    const auto row = [&](int64_t cols) { return cuda_->allocate(cols * 2); };
    const DeviceBuffer normed = row(w.hidden), qkv = row(w.qkv()), attended = row(w.attended()),
                       gate_up = row(2 * w.intermediate), activated = row(w.intermediate),
                       product = row(w.hidden);
    const Matrix hidden = matrix(residual, 1, w.hidden), out = matrix(product, 1, w.hidden);
    const DeviceBuffer result = cuda_->allocate(kVocabulary * 4);
    const Matrix logits = matrix(result, 1, kVocabulary, DType::f32);
    if (whole) {
      EXPECT_TRUE(cuda_->runs_decoder(*plan));
      cuda_->run_decoder(*whole, *plan, cosine_, sine_, caches, hidden, logits);
    } else {
      for (size_t i = 0; i < layers_.size(); ++i) {
        const OneLayer& one = layers_[i];
        const Matrix q = matrix(qkv, 1, w.qkv());
        cuda_->norm_linear(hidden, one.input_norm, kEpsilon, matrix(normed, 1, w.hidden), *one.qkv,
                           q);
        cuda_->rope_and_store(*plan, shape_, cosine_, sine_, q, caches[i]);
        cuda_->attention(*plan, shape_, q, caches[i], matrix(attended, 1, w.attended()));
        cuda_->linear_add(*one.o, matrix(attended, 1, w.attended()), out, hidden);
        const Mlp mlp{*one.gate_up,
                      *one.down,
                      matrix(normed, 1, w.hidden),
                      matrix(gate_up, 1, 2 * w.intermediate),
                      matrix(activated, 1, w.intermediate),
                      out};
        cuda_->norm_mlp_add(hidden, one.post_attention_norm, kEpsilon, mlp);
      }
      cuda_->norm_linear(hidden, final_norm_, kEpsilon, matrix(normed, 1, w.hidden), *head_,
                         logits);
    }
    Outcome outcome{back(result, 1, kVocabulary, DType::f32), {}};
    for (const DeviceBuffer& cache : caches) {
      Tensor bytes(DType::i8, {cache.size_bytes});
      cuda_->download(bytes.raw(), cache.data.get());
      outcome.caches.push_back(std::move(bytes));
    }
    return outcome;
  }

  static int64_t differing(const Tensor& a, const Tensor& b) {
    int64_t count = 0;
    for (int64_t i = 0; i < a.size_bytes(); ++i) count += a.data()[i] != b.data()[i];
    return count;
  }

  void expect_same_bits(const std::string& format, const Widths& w, int layers,
                        std::initializer_list<int64_t> contexts) {
    make(format, w, layers);
    const auto whole = cuda_->prepare_decoder(parts_);
    if (portable_) {
      EXPECT_EQ(whole, nullptr);
      return;
    }
    ASSERT_NE(whole, nullptr);
    for (const int64_t context : contexts)
      for (const DType kv_dtype : {DType::bf16, DType::f8_e4m3}) {
        const Outcome expected = run(w, context, kv_dtype, nullptr);
        for (int again = 0; again < 2; ++again) {
          const Outcome got = run(w, context, kv_dtype, whole.get());
          const std::string where =
              format + ", context " + std::to_string(context) + ", run " + std::to_string(again);
          ASSERT_EQ(differing(got.logits, expected.logits), 0) << where;
          for (size_t i = 0; i < got.caches.size(); ++i)
            ASSERT_EQ(differing(got.caches[i], expected.caches[i]), 0) << where << ", layer " << i;
        }
        for (const float value : expected.logits.as<float>()) ASSERT_TRUE(std::isfinite(value));
      }
  }

  std::vector<OneLayer> layers_;
  std::unique_ptr<Linear> head_;
  DeviceBuffer final_norm_;
  DecoderParts parts_;
  AttentionShape shape_;
  DeviceBuffer cosine_, sine_;
  Tensor input_;
};

TEST_F(CudaDecoder, InOneKernelGiveTheBitsOfTheirOperations) {
  const Widths even{1024, 8, 2, 128, 3072}, odd{576, 9, 3, 64, 1536}, small{1024, 16, 4, 64, 3072};
  for (const char* format : {"bf16", "w8a8-int", "w8a8-fp", "w4a16-int", "w4a16-awq"})
    expect_same_bits(format, even, 3, {1, 63, 64, 65, 700});
  for (const char* format : {"bf16", "w8a8-int", "w8a8-fp"})
    expect_same_bits(format, odd, 2, {1, 130, 1200});
  for (const char* format : {"w4a16-int", "w4a16-awq"})
    expect_same_bits(format, small, 2, {1, 130, 1200});
}

TEST_F(CudaDecoder, OfLlamaGiveTheBitsOfTheirOperations) {
  for (const char* format : {"bf16", "w8a8-int", "w8a8-fp", "w4a16-int"}) {
    expect_same_bits(format, {4096, 32, 8, 128, 14336}, 1, {513});  // 8B
    expect_same_bits(format, {8192, 64, 8, 128, 28672}, 1, {513});  // 70B
  }
}

TEST_F(CudaDecoder, OfLongContextsGiveTheBitsOfTheirOperations) {
  // Groups of threads take several pieces of attention each. The last have a ring of seven stages.
  for (const char* format : {"bf16", "w8a8-fp", "w4a16-int"})
    expect_same_bits(format, {1024, 16, 8, 128, 3072}, 1, {4500});
  for (const char* format : {"w8a8-int", "w8a8-fp"})
    expect_same_bits(format, {1024, 16, 8, 128, 30720}, 1, {513, 4500});
}

// What blocks tell each other is not fenced, so it is tried often; of e4m3 one group of threads
// multiplies and the others are ahead of it.
TEST_F(CudaDecoder, InOneKernelGiveTheSameBitsOverManySteps) {
  const Widths widths{1024, 8, 2, 128, 3072};
  for (const char* format : {"w8a8-int", "w8a8-fp"}) {
    make(format, widths, 12);
    const auto whole = cuda_->prepare_decoder(parts_);
    if (portable_) return;
    ASSERT_NE(whole, nullptr);
    for (const int64_t context : {60, 1000}) {
      const Outcome expected = run(widths, context, DType::bf16, nullptr);
      for (int step = 0; step < 120; ++step)
        ASSERT_EQ(differing(run(widths, context, DType::bf16, whole.get()).logits, expected.logits),
                  0)
            << format << ", context " << context << ", step " << step;
    }
  }
}

TEST_F(CudaDecoder, AreRefusedWhereTheKernelDoesNotFit) {
  // 4-bit widths that are not cut into eight whole parts.
  make("w4a16-int", {640, 5, 5, 128, 1280}, 1);
  EXPECT_EQ(cuda_->prepare_decoder(parts_), nullptr);
  // 4-bit columns in another order than their inputs.
  make("w4a16-int", {1024, 8, 2, 128, 3072}, 1);
  EXPECT_EQ(cuda_->prepare_decoder(parts_) == nullptr, portable_);
  PackedLinear shuffled = layer("w4a16-int", 1024, 1024, 128, false);
  shuffle_groups(shuffled);
  layers_.front().o = cuda_->prepare(std::span(&shuffled, 1));
  parts_.layers = {layers_.front().parts()};
  EXPECT_EQ(cuda_->prepare_decoder(parts_), nullptr);
  // Layers of two formats.
  make("w8a8-int", {1024, 8, 2, 128, 2048}, 1);
  const auto first = std::move(layers_);
  const LayerParts other = parts_.layers.front();
  make("w8a8-fp", {1024, 8, 2, 128, 2048}, 1);
  parts_.layers.push_back(other);
  EXPECT_EQ(cuda_->prepare_decoder(parts_), nullptr);
  // Two rows.
  Batch batch;
  for (int32_t i = 0; i < 2; ++i) {
    batch.tokens.push_back(0);
    batch.positions.push_back(0);
    Batch::Sequence sequence;
    sequence.first_row = i;
    sequence.rows = 1;
    sequence.context = 1;
    sequence.blocks = {i};
    batch.sequences.push_back(std::move(sequence));
  }
  EXPECT_FALSE(cuda_->runs_decoder(*cuda_->plan(std::move(batch))));
}

}  // namespace
}  // namespace narrow::ops
