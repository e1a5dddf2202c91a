#include "ops/cuda/row_decoder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/divide.h"
#include "ops/cuda/error.h"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

constexpr int64_t kMostHidden = 8192;  // that a norm's threads hold
constexpr int64_t kTagBytes = 128;     // in front of the pieces

// Null: of several parts.
const CudaPart* only_part(const Linear* linear) {
  const auto& parts = static_cast<const CudaLinear*>(linear)->parts();
  return parts.size() == 1 ? &parts.front() : nullptr;
}

std::array<const CudaPart*, kRowProducts> parts_of(const LayerParts& layer) {
  return {only_part(layer.qkv), only_part(layer.o), only_part(layer.gate_up),
          only_part(layer.down)};
}

// Whether the kernel cuts this layer's weights, which are to be like `first`.
bool is_cut(const CudaPart& part, const CudaPart& first) {
  if (part.kind != first.kind || part.out % 16 != 0 || part.in % 8 != 0 || part.columns.data)
    return false;
  switch (part.kind) {
    case CudaPart::Kind::bf16:
      return whole_atoms(TensorMapType::bf16, part.in);
    case CudaPart::Kind::int8:
    case CudaPart::Kind::fp8:
      return true;
    case CudaPart::Kind::int4:
      return part.group == 128 && part.offsets == first.offsets && part.out % kInt4Outs == 0 &&
             part.in % (kInt4Inputs * kInt4Parts) == 0;
    case CudaPart::Kind::fp8_weights:
      return false;
  }
  return false;
}

bool fits(const DecoderParts& parts) {
  const AttentionShape& shape = parts.shape;
  if (parts.layers.empty() || parts.layers.size() > kMostRowLayers) return false;
  if ((shape.head_dim != 64 && shape.head_dim != 128) || shape.heads % shape.kv_heads != 0 ||
      shape.heads / shape.kv_heads > kMostQueriesPerKv || shape.kv_heads > processors())
    return false;
  const CudaPart* const head = only_part(parts.head);
  const CudaPart* const first = only_part(parts.layers.front().qkv);
  if (!head || !first || head->kind != CudaPart::Kind::bf16 || !is_cut(*head, *head)) return false;
  const int64_t hidden = head->in, attended = shape.heads * shape.head_dim;
  const CudaPart* const down = only_part(parts.layers.front().down);
  if (hidden > kMostHidden || !down || down->in % 16 != 0) return false;
  for (const LayerParts& layer : parts.layers) {
    const auto of = parts_of(layer);
    for (const CudaPart* part : of)
      if (!part || !is_cut(*part, *first)) return false;
    const auto is = [&](RowProduct product, int64_t in, int64_t out) {
      return of[product]->in == in && of[product]->out == out;
    };
    if (!is(kQkv, hidden, attended + 2 * shape.kv_heads * shape.head_dim) ||
        !is(kO, attended, hidden) || !is(kGateUp, hidden, 2 * down->in) ||
        !is(kDown, down->in, hidden))
      return false;
  }
  return true;
}

CUtensorMap groups_map(const CudaPart& part) {
  const bool bf16 = part.kind == CudaPart::Kind::bf16;
  return atoms_map(part.weight.data.get(), bf16 ? TensorMapType::bf16 : TensorMapType::byte,
                   bf16 ? part.in : part.in_padded, part.out_padded(),
                   part.in_padded * (bf16 ? 2 : 1), 8, kRowSegment / 128);
}

int chunks_of_part(const CudaPart& part) {
  return static_cast<int>(part.in / (kInt4Inputs * kInt4Parts));
}

RowLayers::Product cut(const CudaPart& part) {
  const int in = static_cast<int>(part.in), tiles = static_cast<int>(part.out / 16);
  if (part.kind != CudaPart::Kind::int4)
    return {tiles, div_up(in * (part.kind == CudaPart::Kind::bf16 ? 2 : 1), kRowSegment), in};
  RowLayers::Product product{tiles, 0, in};
  product.halved = chunks_of_part(part) > int4_chunks_of_stage(product);
  product.steps = div_up(chunks_of_part(part), int4_chunks_of_stage(product));
  return product;
}

// 4-bit weights as (word, half of a chunk, chunk of a part, part, tile of kInt4Outs outputs), of
// which a box has a quarter of the words: sixteen outputs. Their scales and offsets likewise.
void describe_int4(const CudaPart& part, CUtensorMap& words, CUtensorMap& scales) {
  const auto* data = static_cast<const std::byte*>(part.weight.data.get());
  const int kinds = part.offsets ? 2 : 1;
  const int64_t chunk = kInt4WordBytes + kinds * kInt4GroupBytes;
  const int64_t chunks = part.in / kInt4Inputs, of_part = chunks_of_part(part);
  const int64_t tiles = part.out / kInt4Outs;
  constexpr int kHalf = kInt4WordBytes / 2, kQuarters = kInt4Outs / 16;
  const int of_stage = int4_chunks_of_stage(cut(part)), parts = kInt4StageChunks / of_stage;
  words = words_map(data, {kHalf / 4, 2, of_part, kInt4Parts, tiles},
                    {kHalf, chunk, of_part * chunk, chunks * chunk},
                    {kHalf / 4 / kQuarters, 2, of_stage, parts, 1});
  scales =
      words_map(data + kInt4WordBytes, {kInt4GroupBytes / 4, kinds, of_part, kInt4Parts, tiles},
                {kInt4GroupBytes, chunk, of_part * chunk, chunks * chunk},
                {kInt4GroupBytes / 4 / kQuarters, kinds, of_stage, parts, 1});
}

}  // namespace

std::unique_ptr<RowDecoder> RowDecoder::make(const DecoderParts& parts, cudaStream_t stream) {
  if (!fits(parts)) return nullptr;
  auto decoder = std::make_unique<RowDecoder>();
  const auto first = parts_of(parts.layers.front());
  decoder->kind_ = first[kQkv]->kind;
  decoder->shape_ = parts.shape;
  RowLayers& work = decoder->work_;
  work.layers = static_cast<int>(parts.layers.size());
  work.epsilon = parts.epsilon;
  work.offsets = first[kQkv]->offsets;
  work.attention.heads = static_cast<int>(parts.shape.heads);
  work.attention.kv_heads = static_cast<int>(parts.shape.kv_heads);
  work.attention.head_dim = static_cast<int>(parts.shape.head_dim);
  work.attention.scale = parts.shape.scale;
  for (size_t i = 0; i < kRowProducts; ++i) work.product[i] = cut(*first[i]);
  work.head = cut(*only_part(parts.head));
  work.hidden = work.head.in;
  work.intermediate = work.product[kDown].in;
  const int gate_up = work.product[kGateUp].tiles;
  work.blocks =
      std::min(processors(), decoder->kind_ == CudaPart::Kind::int4 ? gate_up / 2 : gate_up);
  decoder->plan_memory();
  if (work.stages == 0) return nullptr;
  decoder->upload_table(parts, stream);

  decoder->allot_rows(stream);
  return decoder;
}

// The ring has what is left of a block's shared memory; stages: 0 where that is too little.
void RowDecoder::plan_memory() {
  RowLayers& work = work_;
  const bool int4 = kind_ == CudaPart::Kind::int4;
  const bool coded = kind_ == CudaPart::Kind::fp8 || kind_ == CudaPart::Kind::int8;
  work.x_bytes = std::max(row_attention_bytes(work.attention), work.head.steps * kRowSegment);
  for (int i = 0; i < kRowProducts; ++i) {
    const RowLayers::Product& product = work.product[i];
    work.x_bytes = std::max(work.x_bytes, int4 ? product.in / kInt4Inputs * kInt4ChunkBytes
                                               : product.steps * kRowSegment);
    if (coded) work.staged_bytes = std::max(work.staged_bytes, 2 * product.in);
  }
  work.x_bytes = static_cast<int>(round_up(work.x_bytes, 128));
  const int stage = int4 ? kInt4RowStageBytes : kRowStageBytes;
  work.stages = std::min(kMostRowStages,
                         (kRowMemory - kRowStaticBytes - row_memory_bytes(work, stage)) / stage);
  // Warps are apart by no more than the ring is long: not by as many rounds as have sums of their
  // own, of which those of a round are added up behind the next.
  if (int4)
    for (const RowLayers::Product& product : work.product)
      work.stages = std::min(
          work.stages, (kInt4Rounds - 2) * kInt4Tiles * (1 << product.halved) * product.steps);
  // A warp that has read a stage waits for one up to kRowBeside further on. What was in its place
  // in the ring before must be there by then, or the warp would take the one for the other: it is,
  // where it was asked for as many stages earlier as are under way. (Who does not multiply meets the
  // others before it waits again.)
  work.under_way = std::min(kRowUnderWay, work.stages - kRowBeside);
  if (work.under_way < kRowAhead) work.stages = 0;
  // Nor further on than that from a group's piece of attention to its next one.
  work.attending = std::min(kRowGroups, (work.stages - work.under_way) / 2);
}

// What the blocks tell each other, one row behind the other; nothing is there at first.
void RowDecoder::allot_rows(cudaStream_t stream) {
  RowLayers& work = work_;
  const std::pair<__nv_bfloat16**, int> rows[] = {
      {&work.made[kQkv], 16 * work.product[kQkv].tiles},
      {&work.attended, work.product[kO].in},
      {&work.made[kO], work.hidden},
      {&work.made[kGateUp], work.intermediate},
      {&work.made[kDown], work.hidden},
  };
  int64_t all = 0;
  for (const auto& [row, numbers] : rows) all += round_up(numbers, 64);
  const int64_t bytes = kRowTurns * all * 2;
  rows_ = allocate(bytes, stream);
  cuda::check(cudaMemsetAsync(rows_.data.get(), 0xff, static_cast<size_t>(bytes), stream),
              "emptying rows");
  auto* at = static_cast<__nv_bfloat16*>(rows_.data.get());
  for (const auto& [row, numbers] : rows) {
    *row = at;
    at += round_up(numbers, 64);
  }
  work.turn_numbers = static_cast<int>(all);
  state_ = allocate(2 * int64_t{sizeof(uint32_t)}, stream);
  work.state = static_cast<uint32_t*>(state_.data.get());
}

void RowDecoder::upload_table(const DecoderParts& parts, cudaStream_t stream) {
  std::vector<RowLayer> table(parts.layers.size() + 1);
  const auto floats = [](const DeviceBuffer& buffer) {
    return static_cast<const float*>(buffer.data.get());
  };
  for (size_t i = 0; i < parts.layers.size(); ++i) {
    const auto of = parts_of(parts.layers[i]);
    for (size_t p = 0; p < kRowProducts; ++p) {
      if (kind_ == CudaPart::Kind::int4) {
        describe_int4(*of[p], table[i].weights[p], table[i].scales[p]);
      } else {
        table[i].weights[p] = groups_map(*of[p]);
      }
      table[i].column_scale[p] = floats(of[p]->scale);
      table[i].bias[p] = floats(of[p]->bias);
    }
    table[i].norm[0] = floats(*parts.layers[i].input_norm);
    table[i].norm[1] = floats(*parts.layers[i].post_attention_norm);
  }
  const CudaPart& head = *only_part(parts.head);
  table.back().weights[0] = groups_map(head);
  table.back().bias[0] = floats(head.bias);
  table.back().norm[0] = floats(*parts.final_norm);
  const auto bytes = static_cast<int64_t>(table.size() * sizeof(RowLayer));
  table_ = allocate(bytes, stream);
  copy_to_device(table_.data.get(), table.data(), bytes, stream);
  work_.table = static_cast<const RowLayer*>(table_.data.get());
}

void RowDecoder::check(Matrix embedded, Matrix logits, std::span<const DeviceBuffer> kv) const {
  if (embedded.rows != 1 || embedded.cols != work_.hidden || logits.rows != 1 ||
      logits.cols != int64_t{16} * work_.head.tiles || logits.dtype != DType::f32 ||
      static_cast<int>(kv.size()) != work_.layers)
    throw Error::failed("run_decoder: not one row of this decoder, or another number of layers");
}

int64_t RowDecoder::pieces_bytes(const DeviceBatch& batch) const {
  const AttentionLayer& of = work_.attention;
  return kTagBytes + int64_t{8} * of.kv_heads * batch.chunks *
                         row_piece_words(of.heads / of.kv_heads, of.head_dim);
}

void RowDecoder::run(const DeviceBatch& batch, const float* cosine, const float* sine,
                     std::span<const DeviceBuffer> kv, bool e4m3, const __nv_bfloat16* embedded,
                     float* logits, std::byte* pieces, cudaStream_t stream) const {
  RowLayers work = work_;
  work.attention.e4m3 = e4m3;
  for (size_t i = 0; i < kv.size(); ++i) work.kv[i] = kv[i].data.get();
  work.cosine = cosine;
  work.sine = sine;
  work.batch = batch;
  work.embedded = embedded;
  work.logits = logits;
  work.tag = reinterpret_cast<uint32_t*>(pieces);
  work.pieces = reinterpret_cast<uint64_t*>(pieces + kTagBytes);
  switch (kind_) {
    case CudaPart::Kind::bf16:
      return row_layers_bf16(work, stream);
    case CudaPart::Kind::int8:
      return row_layers_int8(work, stream);
    case CudaPart::Kind::fp8:
      return row_layers_fp8(work, stream);
    case CudaPart::Kind::int4:
      return row_layers_int4(work, stream);
    case CudaPart::Kind::fp8_weights:
      throw Error::failed("layers that no kernel was chosen for");
  }
}

}  // namespace narrow::ops::cuda
