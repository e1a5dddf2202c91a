#include "ops/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/thread_pool.h"
#include "ops/activation.h"
#include "ops/check.h"
#include "ops/cpu/cpu_linear.h"
#include "ops/host_memory.h"

namespace narrow::ops {
namespace {

using cpu::CpuLinear;
using cpu::CpuPart;
using cpu::Kernels;
using cpu::kPanelColumns;

const Kernels* best_kernels() {
  const cpu::Implementations usable = cpu::usable_kernels();
  if (usable.count > 0) return usable.kernels[0];
  throw Error::refused("this processor lacks AVX2 and FMA", "--backend cpu",
                       "use --backend reference");
}

// Memory that only grows, so that steps of a steady size allocate nothing.
template <class T>
T* grown(std::vector<T>& memory, int64_t count) {
  if (static_cast<int64_t>(memory.size()) < count) memory.resize(static_cast<size_t>(count));
  return memory.data();
}

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

struct alignas(64) Vector {
  float lanes[16];
};

class CpuBackend : public HostBackend {
 public:
  explicit CpuBackend(int threads) : kernels_(*best_kernels()), pool_(threads) {}

  std::string_view name() const override { return "cpu"; }
  std::string describe() const override {
    return fmt::format("cpu: {}, {} thread{}", kernels_.name, pool_.threads(),
                       pool_.threads() == 1 ? "" : "s");
  }
  DType kv_dtype() const override { return DType::bf16; }
  using HostBackend::prepare;

  std::unique_ptr<Linear> prepare(std::span<const PackedLinear> parts) override {
    check_parts(parts);
    return std::make_unique<CpuLinear>(parts, pool_);
  }

  void linear(const Linear& layer, Matrix x, Matrix y) override {
    check_linear(layer, x, y);
    if (x.rows == 0) return;
    const auto& own = static_cast<const CpuLinear&>(layer);
    int64_t first_column = 0;
    const CpuPart* prepared_for = nullptr;
    for (const CpuPart& part : own.parts()) {
      // Parts of one layer treat the input alike, as a rule: it is prepared once for all.
      if (!prepared_for || prepared_for->input != part.input ||
          prepared_for->round_input != part.round_input) {
        prepare_input(part, x);
        prepared_for = &part;
      }
      multiply_part(part, x.rows, y, first_column);
      first_column += part.out;
    }
  }

  void rms_norm(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix y) override {
    check_rms_norm(x, gamma, y);
    over_rows(x, [&](int64_t r) {
      kernels_.rms_norm(x.row<float>(r), floats(gamma), x.cols, epsilon, y.row<float>(r));
    });
  }

  void add(Matrix residual, Matrix x) override {
    check_same_shape(residual, x, "add");
    over_rows(x, [&](int64_t r) { kernels_.add(residual.row<float>(r), x.row<float>(r), x.cols); });
  }

  void silu_mul(Matrix gate_up, Matrix y) override {
    check_silu_mul(gate_up, y);
    over_rows(y, [&](int64_t r) {
      const float* gate = gate_up.row<float>(r);
      kernels_.silu_mul(gate, gate + y.cols, y.cols, y.row<float>(r));
    });
  }

  void rope_and_store(const Plan& plan, const AttentionShape& shape, const DeviceBuffer& cosine,
                      const DeviceBuffer& sine, Matrix qkv, const DeviceBuffer& kv) override {
    check_attention(plan, shape, qkv, kv, size_of(DType::bf16));
    const int64_t half = shape.head_dim / 2;
    for (const Batch::Sequence& sequence : plan.batch().sequences) {
      pool_.parallel_for(sequence.rows, kRowGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t r = sequence.first_row + i;
          const int64_t position = plan.batch().positions[static_cast<size_t>(r)];
          float* row = qkv.row<float>(r);
          for (int64_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
            rotate(row + head * shape.head_dim, half, floats(cosine) + position * half,
                   floats(sine) + position * half);
          }
          store(shape, sequence, sequence.context - sequence.rows + i, row, kv);
        }
      });
    }
  }

  void attention(const Plan& plan, const AttentionShape& shape, Matrix qkv, const DeviceBuffer& kv,
                 Matrix out) override {
    check_attention(plan, shape, qkv, kv, size_of(DType::bf16));
    if (shape.head_dim % 8 != 0)
      throw Error::refused("the cpu backend needs head sizes that are multiples of 8");
    const int64_t queries = shape.heads / shape.kv_heads;
    const int64_t value_offset = shape.kv_heads * kKvBlockTokens * shape.head_dim;
    const int64_t block_elements = 2 * value_offset;
    const auto* cache = static_cast<const uint16_t*>(kv.data.get());
    // One unit of work: one row and one group of heads that share keys.
    units_.clear();
    for (const Batch::Sequence& sequence : plan.batch().sequences)
      for (int64_t i = 0; i < sequence.rows; ++i) units_.push_back({&sequence, i});
    pool_.parallel_for(static_cast<int64_t>(units_.size()), 1, [&](int64_t begin, int64_t end) {
      std::vector<const uint16_t*> blocks;
      std::vector<float> weights;
      for (int64_t u = begin; u < end; ++u) {
        const auto [sequence, i] = units_[static_cast<size_t>(u)];
        const int64_t visible = sequence->context - sequence->rows + i + 1;
        const int64_t r = sequence->first_row + i;
        for (int64_t head = 0; head < shape.kv_heads; ++head) {
          blocks.clear();
          for (int32_t block : sequence->blocks)
            blocks.push_back(cache + block * block_elements +
                             head * kKvBlockTokens * shape.head_dim);
          const int64_t first = head * queries * shape.head_dim;
          kernels_.attend(qkv.row<float>(r) + first, shape.head_dim, queries, blocks.data(),
                          value_offset, visible, shape.head_dim, shape.scale,
                          grown(weights, queries * ((visible + 7) / 8 * 8)),
                          out.row<float>(r) + first, shape.head_dim);
        }
      }
    });
  }

 private:
  // Rows of a few hundred numbers take a microsecond: fewer than this are not worth waking a
  // thread.
  static constexpr int64_t kRowGrain = 8;
  // Panels (of 16 outputs) handed to a thread at a time.
  static constexpr int64_t kPanelGrain = 2;

  template <class Body>
  void over_rows(Matrix x, Body body) {
    pool_.parallel_for(x.rows, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) body(r);
    });
  }

  // Brings x into the form the part multiplies with: input_ (float) or codes_ (int16), scales_.
  void prepare_input(const CpuPart& part, Matrix x) {
    input_stride_ = (x.cols + 7) / 8 * 8;
    if (part.input == InputKind::int8_per_token) {
      grown(codes_, x.rows * input_stride_);
    } else {
      grown(input_, x.rows * input_stride_);
    }
    grown(scales_, x.rows);
    if (uses_tiles(part)) {
      tile_stride_ = round_up(x.cols, cpu::kTileInputs);
      const int64_t elements = round_up(x.rows, cpu::kTileRows) * tile_stride_;
      if (part.input == InputKind::int8_per_token) {
        grown(tile_bytes_, elements);
      } else {
        grown(tile_halves_, elements);
      }
    }
    over_rows(x, [&](int64_t r) {
      const float* from = x.row<float>(r);
      const std::span<const float> row(from, static_cast<size_t>(x.cols));
      float* to = input_.data() + r * input_stride_;
      switch (part.input) {
        case InputKind::plain:
          if (part.round_input) {
            kernels_.round_to_bf16(from, x.cols, to);
          } else {
            std::copy(row.begin(), row.end(), to);
          }
          scales_[static_cast<size_t>(r)] = 1;
          break;
        case InputKind::int8_per_token: {
          // Same rule as quantize_int8, vectorised.
          int16_t* codes = codes_.data() + r * input_stride_;
          const float scale = int8_scale(kernels_.absolute_maximum(from, x.cols));
          kernels_.quantize_int8(from, x.cols, scale, codes);
          std::fill(codes + x.cols, codes + input_stride_, int16_t{0});
          scales_[static_cast<size_t>(r)] = scale;
          break;
        }
        case InputKind::fp8_per_token: {
          const float scale = fp8_scale(kernels_.absolute_maximum(from, x.cols));
          kernels_.quantize_fp8(from, x.cols, scale, to);
          scales_[static_cast<size_t>(r)] = scale;
          break;
        }
      }
      if (uses_tiles(part)) fill_tiles(part, r, x.cols);
    });
  }

  // Weights in float32 keep their precision.
  bool uses_tiles(const CpuPart& part) const {
    if (part.input == InputKind::int8_per_token) return kernels_.multiply_int8_tiles != nullptr;
    return kernels_.multiply_bf16 != nullptr && part.kind != cpu::PanelKind::f32;
  }

  void for_each_row(int64_t rows, const std::function<void(int64_t)>& body) override {
    pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) body(r);
    });
  }

  // Row r of codes_ or input_, which bf16 holds exactly, in the tiles' type.
  void fill_tiles(const CpuPart& part, int64_t r, int64_t cols) {
    if (part.input == InputKind::int8_per_token) {
      const int16_t* from = codes_.data() + r * input_stride_;
      int8_t* to = tile_bytes_.data() + r * tile_stride_;
      for (int64_t k = 0; k < cols; ++k) to[k] = static_cast<int8_t>(from[k]);
      std::fill(to + cols, to + tile_stride_, int8_t{0});
    } else {
      const float* from = input_.data() + r * input_stride_;
      uint16_t* to = tile_halves_.data() + r * tile_stride_;
      for (int64_t k = 0; k < cols; ++k)
        to[k] = static_cast<uint16_t>(std::bit_cast<uint32_t>(from[k]) >> 16);
      std::fill(to + cols, to + tile_stride_, uint16_t{0});
    }
  }

  void multiply_part(const CpuPart& part, int64_t rows, Matrix y, int64_t first_column) {
    pool_.parallel_for(part.panels(), kPanelGrain, [&](int64_t begin, int64_t end) {
      thread_local std::vector<Vector> accumulators, scratch;
      float* acc = grown(accumulators, round_up(rows, cpu::kTileRows))->lanes;
      float* decoded = grown(scratch, round_up(part.in + 1, cpu::kTileInputs))->lanes;
      const bool tiles = uses_tiles(part);
      for (int64_t p = begin; p < end; ++p) {
        if (part.input == InputKind::int8_per_token) {
          auto* sums = reinterpret_cast<int32_t*>(acc);
          const auto* weights =
              reinterpret_cast<const int8_t*>(part.weights.data()) + p * part.panel_bytes();
          if (tiles) {
            kernels_.multiply_int8_tiles(weights, part.in, tile_bytes_.data(), tile_stride_, rows,
                                         sums, decoded);
          } else {
            kernels_.multiply_int8(weights, part.in, codes_.data(), input_stride_, rows, sums,
                                   reinterpret_cast<int16_t*>(decoded));
          }
          for (int64_t i = 0; i < rows * kPanelColumns; ++i) acc[i] = static_cast<float>(sums[i]);
        } else if (tiles) {
          kernels_.multiply_bf16(part.panel(p), tile_halves_.data(), tile_stride_, rows, acc,
                                 decoded);
        } else {
          kernels_.multiply(part.panel(p), input_.data(), input_stride_, rows, acc, decoded);
        }
        write_panel(part, p, rows, acc, y, first_column);
      }
    });
  }

  // y = acc · (input scale · output scale) + bias for the outputs of panel p.
  void write_panel(const CpuPart& part, int64_t p, int64_t rows, const float* acc, Matrix y,
                   int64_t first_column) const {
    const int64_t n0 = p * kPanelColumns;
    const int64_t count = std::min(kPanelColumns, part.out - n0);
    const float* scale =
        part.output_scale.empty() ? nullptr : part.output_scale.as<float>().data() + n0;
    const float* bias = part.bias.empty() ? nullptr : part.bias.as<float>().data() + n0;
    for (int64_t r = 0; r < rows; ++r) {
      float* to = y.row<float>(r) + first_column + n0;
      const float* from = acc + r * kPanelColumns;
      const float input_scale = scales_[static_cast<size_t>(r)];
      for (int64_t j = 0; j < count; ++j) {
        float value = from[j];
        if (scale) value *= input_scale * scale[j];
        if (bias) value += bias[j];
        to[j] = value;
      }
    }
  }

  static void rotate(float* x, int64_t half, const float* cosine, const float* sine) {
    for (int64_t d = 0; d < half; ++d) {
      const float low = x[d], high = x[d + half];
      x[d] = low * cosine[d] - high * sine[d];
      x[d + half] = high * cosine[d] + low * sine[d];
    }
  }

  static void store(const AttentionShape& shape, const Batch::Sequence& sequence, int64_t slot,
                    const float* row, const DeviceBuffer& kv) {
    const int64_t block = sequence.blocks[static_cast<size_t>(slot / kKvBlockTokens)];
    for (int64_t head = 0; head < 2 * shape.kv_heads; ++head) {
      const float* from = row + (shape.heads + head) * shape.head_dim;
      bf16* to = static_cast<bf16*>(kv.data.get()) +
                 ((block * 2 * shape.kv_heads + head) * kKvBlockTokens + slot % kKvBlockTokens) *
                     shape.head_dim;
      for (int64_t d = 0; d < shape.head_dim; ++d) to[d] = to_bf16(from[d]);
    }
  }

  struct Unit {
    const Batch::Sequence* sequence;
    int64_t row;
  };

  const Kernels& kernels_;
  ThreadPool pool_;
  int64_t input_stride_ = 0;
  std::vector<float> input_;    // [rows, input_stride_]
  std::vector<int16_t> codes_;  // [rows, input_stride_]
  std::vector<float> scales_;   // [rows] input scales
  int64_t tile_stride_ = 0;
  std::vector<uint16_t> tile_halves_;  // the input for matrix tiles: bf16, or
  std::vector<int8_t> tile_bytes_;     // int8
  std::vector<Unit> units_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace narrow::ops
