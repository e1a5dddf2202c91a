#include "ops/cuda/cuda_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/thread_pool.h"
#include "ops/check.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/cuda_linear.h"
#include "ops/cuda/cuda_plan.h"
#include "ops/cuda/error.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/memory.h"
#include "ops/cuda/portable.h"
#include "ops/cuda/recordings.h"
#include "ops/cuda/row_decoder.h"
#include "ops/cuda/staging.h"
#include "ops/cuda/summaries.h"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

// Partial results of decode attention are kept below this: many rows of long contexts go in turns.
constexpr int64_t kMostAttentionWorkspace = int64_t{256} << 20;

// Of rows to gather, whose number grows from step to step: growing waits for the device.
constexpr int64_t kLeastIndexBytes = int64_t{32} << 10;

// From so many rows on gate and up leave their product activated, or from so many outputs of both
// on, which are a tile for every processor whatever the rows (of 4-bit weights: of more than
// kFewInt4Rows).
constexpr int64_t kGatedRows = 1024, kGatedOuts = 16384;

__nv_bfloat16* bf16_of(Matrix m) { return static_cast<__nv_bfloat16*>(m.data); }
const float* floats_of(const DeviceBuffer& buffer) {
  return static_cast<const float*>(buffer.data.get());
}

// Hopper has kernels of its own (kernels.h); they and the portable ones (portable.h) are compiled
// for these (CMakeLists.txt).
bool has_kernels(int capability) {
  const int major = capability / 10;
  return major == 8 || capability == 90 || major == 10 || major == 12;
}

class CudaBackend : public Backend {
 public:
  CudaBackend(int threads, CudaKernels kernels) : pool_(threads) {
    // The driver, which reads this when it starts, would load each kernel at its first launch, and
    // that waits for the device: a step of a new shape would begin late.
    setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
    int count = 0;
    const cudaError_t found = cudaGetDeviceCount(&count);
    if (found != cudaSuccess || count == 0) {
      cudaGetLastError();
      throw Error::refused(
          fmt::format("no NVIDIA GPU, or no driver for it ({})", cudaGetErrorName(found)),
          "--backend cuda", "use --backend cpu");
    }
    check(cudaSetDevice(0), "choosing the device");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "device properties");
    if (!has_kernels(compute_capability())) {
      throw Error::refused(
          fmt::format("{} has compute capability {}.{}; this build has kernels for "
                      "8.x (Ampere, Ada), 9.0 (Hopper), 10.x and 12.x (Blackwell)",
                      properties.name, properties.major, properties.minor),
          "--backend cuda", "use --backend cpu");
    }
    portable_ = compute_capability() != 90 || kernels == CudaKernels::portable;
    description_ =
        fmt::format("cuda: {}, {:.0f} GiB, {}", properties.name,
                    static_cast<double>(properties.totalGlobalMem) / (1 << 30),
                    portable_ ? "portable kernels, FP8 of weights alone" : "Hopper kernels");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    step_memory_ = std::make_unique<StepMemory>(stream_);
    staging_ = std::make_unique<Staging>(stream_);
    // What a step frees stays with the process for the next one.
    cudaMemPool_t pool = nullptr;
    check(cudaDeviceGetDefaultMemPool(&pool, 0), "memory pool");
    uint64_t keep = uint64_t{64} << 20;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "memory pool");
  }
  ~CudaBackend() override {
    cudaStreamSynchronize(stream_);
    recordings_.clear();
    uploader_.reset();
    staging_.reset();
    if (host_) cudaFreeHost(host_);
    cudaStreamDestroy(stream_);
  }

  std::string_view name() const override { return "cuda"; }
  std::string describe() const override { return description_; }
  std::map<std::string, std::string> format_notes() const override {
    if (!portable_) return {};
    return {{"w8a8-fp",
             "On this GPU FP8 is of weights alone: they are multiplied with bf16 activations, "
             "which are not quantized, so its accuracy and speed are not those of W8A8."}};
  }
  DType activation_dtype() const override { return DType::bf16; }
  DType kv_dtype() const override { return DType::bf16; }
  bool runs_kv(DType dtype) const override {
    return dtype == DType::bf16 || dtype == DType::f8_e4m3;
  }
  int64_t free_bytes() const override {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "memory information");
    return static_cast<int64_t>(free);
  }

  // Prompts in steps that fill the tensor cores; a tenth of the memory stays for what steps need.
  EngineDefaults engine_defaults() const override {
    return {StepMemory::kRows, 8192, free_bytes() / 10 * 9, /*plan_ahead=*/true};
  }

  DeviceBuffer allocate(int64_t bytes) override { return cuda::allocate(bytes, stream_); }
  void upload(const DeviceBuffer& to, std::span<const std::byte> from) override {
    if (static_cast<int64_t>(from.size()) > to.size_bytes)
      throw Error::failed("upload beyond the end of the buffer");
    copy_to_device(to.data.get(), from.data(), static_cast<int64_t>(from.size()), stream_);
  }
  void download(std::span<std::byte> to, const void* from) override {
    check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream_),
          "copy from the device");
    synchronize();
  }
  std::span<const std::byte> read_back(const void* from, int64_t bytes) override {
    if (host_bytes_ < bytes) {
      if (host_) check(cudaFreeHost(host_), "freeing host memory");
      host_ = nullptr;
      check(cudaMallocHost(&host_, static_cast<size_t>(bytes)), "page-locked host memory");
      host_bytes_ = bytes;
    }
    const std::span<std::byte> to(static_cast<std::byte*>(host_), static_cast<size_t>(bytes));
    download(to, from);
    return to;
  }
  std::unique_ptr<PendingSummaries> summarize_logits(Matrix logits,
                                                     std::span<const LogitQuery> queries,
                                                     const DeviceBuffer& chosen) override {
    check_summarize(logits, queries, chosen);
    return summaries_.start(logits, queries, static_cast<int32_t*>(chosen.data.get()), stream_);
  }
  std::vector<LogitDivergence> compare_logits(Matrix p, Matrix q,
                                              std::span<const int32_t> targets) override {
    check_compare(p, q, targets);
    if (p.rows == 0) return {};
    const auto bytes = static_cast<int64_t>(targets.size_bytes());
    auto* const asked = targets_.at_least<int32_t>(bytes, stream_);
    staging_->copy(asked, targets.data(), bytes);
    std::vector<LogitDivergence> divergences(targets.size());
    auto* const found = divergences_.at_least<LogitDivergence>(
        p.rows * static_cast<int64_t>(sizeof(LogitDivergence)), stream_);
    cuda::compare_logits(static_cast<const float*>(p.data), static_cast<const float*>(q.data),
                         asked, found, p.rows, p.cols, stream_);
    download(std::as_writable_bytes(std::span(divergences)), found);
    return divergences;
  }
  void synchronize() override { check(cudaStreamSynchronize(stream_), "a kernel"); }

  std::unique_ptr<Linear> prepare(std::span<const PackedLinear> parts) override {
    check_parts(parts);
    return std::make_unique<CudaLinear>(parts, /*fp8_inputs=*/!portable_, pool_, uploader(),
                                        stream_);
  }
  DeviceBuffer prepare(const Tensor& tensor) override {
    const DType dtype = tensor.shape().size() == 2 ? DType::bf16 : DType::f32;
    const Tensor converted = tensor.dtype() == dtype ? tensor : tensor.to(DType::f32).to(dtype);
    DeviceBuffer buffer = allocate(converted.size_bytes());
    buffer.dtype = dtype;
    uploader().copy(buffer.data.get(), converted.data(), converted.size_bytes());
    return buffer;
  }

  std::unique_ptr<Plan> plan(Batch batch) override {
    return std::make_unique<CudaPlan>(std::move(batch), *step_memory_, *staging_, stream_);
  }

  void run(const Plan& plan, std::span<const uint64_t> identity,
           const std::function<void()>& enqueue) override {
    const auto& own = static_cast<const CudaPlan&>(plan);
    if (!own.recordable()) return enqueue();
    int growths = 0;
    for (const GrowingBuffer* buffer : {&codes_, &code_scales_, &largest_, &in_order_, &partials_,
                                        &counters_, &row_pieces_, &indices_})
      growths += buffer->growths();
    if (growths != growths_) recordings_.clear();
    growths_ = growths;
    std::vector<uint64_t> key(identity.begin(), identity.end());
    key.push_back(static_cast<uint64_t>(own.device().rows));
    key.push_back(static_cast<uint64_t>(own.device().chunks));
    // Of both types of cache, though a step has one: which is not known here.
    key.push_back(static_cast<uint64_t>(own.device().walk_heads.bf16));
    key.push_back(static_cast<uint64_t>(own.device().walk_heads.e4m3));
    recordings_.run(key, stream_, enqueue);
  }

  void linear(const Linear& layer, Matrix x, Matrix y) override {
    check_linear(layer, x, y);
    quantize_and_multiply(layer, x, y, Result::plain);
  }

  void linear_add(const Linear& layer, Matrix x, Matrix y, Matrix residual) override {
    check_linear(layer, x, y);
    check_residual(residual, y, "linear_add");
    quantize_and_multiply(layer, x, residual, Result::added);
  }

  void norm_linear(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix normed,
                   const Linear& layer, Matrix y) override {
    check_rms_norm(x, gamma, normed);
    check_linear(layer, normed, y);
    if (x.rows == 0) return;
    const QuantizedRows quantized = codes_for(layer, x.rows);
    cuda::rms_norm(bf16_of(x), floats_of(gamma), epsilon, bf16_of(normed), quantized, nullptr,
                   x.rows, x.cols, stream_);
    multiply(layer, normed, quantized, y, Result::plain);
  }

  void norm_mlp_add(Matrix residual, const DeviceBuffer& gamma, float epsilon,
                    const Mlp& mlp) override {
    check_rms_norm(residual, gamma, mlp.normed);
    check_linear(mlp.gate_up, mlp.normed, mlp.gates);
    check_silu_mul(mlp.gates, mlp.activated);
    check_linear(mlp.down, mlp.activated, mlp.out);
    check_residual(residual, mlp.out, "norm_mlp_add");
    const int64_t rows = residual.rows;
    if (rows == 0) return;
    const std::vector<CudaPart>& parts = static_cast<const CudaLinear&>(mlp.gate_up).parts();
    if (!has_gated_product(parts, rows)) {
      norm_linear(residual, gamma, epsilon, mlp.normed, mlp.gate_up, mlp.gates);
      const QuantizedRows quantized = codes_for(mlp.down, rows);
      cuda::silu_mul(bf16_of(mlp.gates), bf16_of(mlp.activated), quantized, rows,
                     mlp.activated.cols, stream_);
      return multiply(mlp.down, mlp.activated, quantized, residual, Result::added);
    }
    const CudaPart& gates = parts.front();
    const CudaPart& down = static_cast<const CudaLinear&>(mlp.down).parts().front();
    // The product that activates finds the largest number of each row, so that quantizing them
    // does not have to.
    const bool finds_largest =
        gates.input() != Codes::none && down.input() != Codes::none && mlp.activated.cols % 8 == 0;
    uint32_t* const largest =
        finds_largest ? largest_.at_least<uint32_t>(rows * int64_t{sizeof(uint32_t)}, stream_)
                      : nullptr;
    const QuantizedRows quantized = codes_for(mlp.gate_up, rows);
    cuda::rms_norm(bf16_of(residual), floats_of(gamma), epsilon, bf16_of(mlp.normed), quantized,
                   largest, rows, residual.cols, stream_);
    multiply(gates, mlp.normed, quantized, mlp.activated, Result::activated, largest);
    if (!largest) return linear_add(mlp.down, mlp.activated, mlp.out, residual);
    const QuantizedRows of_activated = codes_for(mlp.down, rows);
    quantize_known_rows(bf16_of(mlp.activated), largest, of_activated, rows, mlp.activated.cols,
                        stream_);
    multiply(mlp.down, mlp.activated, of_activated, residual, Result::added);
  }

  void embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
             Matrix out) override {
    check_embed(plan, table, chosen, out);
    cuda::embed(device(plan).tokens, static_cast<const int32_t*>(chosen.data.get()),
                static_cast<const __nv_bfloat16*>(table.data.get()), bf16_of(out), out.rows,
                out.cols, stream_);
  }

  void rms_norm(Matrix x, const DeviceBuffer& gamma, float epsilon, Matrix y) override {
    check_rms_norm(x, gamma, y);
    cuda::rms_norm(bf16_of(x), floats_of(gamma), epsilon, bf16_of(y), {}, nullptr, x.rows, x.cols,
                   stream_);
  }

  void add(Matrix residual, Matrix x) override {
    check_same_shape(residual, x, "add");
    cuda::add(bf16_of(residual), bf16_of(x), x.rows * x.cols, stream_);
  }

  void silu_mul(Matrix gate_up, Matrix y) override {
    check_silu_mul(gate_up, y);
    cuda::silu_mul(bf16_of(gate_up), bf16_of(y), {}, y.rows, y.cols, stream_);
  }

  void rope_and_store(const Plan& plan, const AttentionShape& shape, const DeviceBuffer& cosine,
                      const DeviceBuffer& sine, Matrix qkv, const DeviceBuffer& kv) override {
    check_attention(plan, shape, qkv, kv, size_of(kv_dtype_of(kv)));
    cuda::rope_and_store(device(plan), layer_of(shape, kv), floats_of(cosine), floats_of(sine),
                         bf16_of(qkv), stream_);
  }

  void attention(const Plan& plan, const AttentionShape& shape, Matrix qkv, const DeviceBuffer& kv,
                 Matrix out) override {
    check_attention(plan, shape, qkv, kv, size_of(kv_dtype_of(kv)));
    const auto& own = static_cast<const CudaPlan&>(plan);
    const AttentionLayer layer = layer_of(shape, kv);
    const bool tiled = (layer.head_dim == 64 || layer.head_dim == 128) &&
                       layer.heads / layer.kv_heads <= kMostQueriesPerKv;
    if (!tiled) {
      const int all = own.device().singles;
      if (all == 0) return;
      if (layer.head_dim > 256) throw Error::refused("heads of more than 256 dimensions");
      simple_attention(own.singles(0, all), layer, bf16_of(qkv), bf16_of(out), stream_);
      return;
    }
    const auto prefill = portable_ ? portable_prefill_attention : prefill_attention;
    prefill(own.device(), layer, bf16_of(qkv), bf16_of(out), stream_);
    const int lone = own.lone();
    if (lone == 0) return;
    const WalkHeads& walked = own.device().walk_heads;
    if (layer.kv_heads >= (layer.e4m3 ? walked.e4m3 : walked.bf16))  // the bits are the same
      return walk_attention(own.singles(0, lone), layer, bf16_of(qkv), bf16_of(out), stream_);
    const DeviceBatch whole = own.singles(0, lone);
    const int64_t of_one = decode_workspace_bytes(layer, 1, whole.chunks);
    const int64_t fit = of_one > 0 ? std::max<int64_t>(1, kMostAttentionWorkspace / of_one) : lone;
    for (int first = 0; first < lone; first += static_cast<int>(std::min<int64_t>(fit, lone))) {
      const int count = static_cast<int>(std::min<int64_t>(fit, lone - first));
      const DeviceBatch part = own.singles(first, count);
      decode_attention(
          part, layer, bf16_of(qkv), bf16_of(out),
          partials_.at_least<float>(decode_workspace_bytes(layer, count, part.chunks), stream_),
          counters_.at_least<uint32_t>(int64_t{4} * count * layer.kv_heads, stream_), stream_);
    }
  }

  std::unique_ptr<PreparedDecoder> prepare_decoder(const DecoderParts& parts) override {
    if (portable_) return nullptr;
    return RowDecoder::make(parts, stream_);
  }
  // One row is bound by memory and by what lies between kernels.
  bool runs_decoder(const Plan& plan) const override {
    return device(plan).rows == 1 && static_cast<const CudaPlan&>(plan).lone() == 1;
  }
  void run_decoder(const PreparedDecoder& decoder, const Plan& plan, const DeviceBuffer& cosine,
                   const DeviceBuffer& sine, std::span<const DeviceBuffer> kv, Matrix embedded,
                   Matrix logits) override {
    const auto& own = static_cast<const RowDecoder&>(decoder);
    own.check(embedded, logits, kv);
    if (!runs_decoder(plan)) throw Error::failed("run_decoder: not one row");
    for (const DeviceBuffer& layer : kv)
      check_attention(plan, own.shape(), own.qkv(), layer, size_of(kv_dtype_of(layer)));
    const DeviceBatch batch = static_cast<const CudaPlan&>(plan).singles(0, 1);
    own.run(batch, floats_of(cosine), floats_of(sine), kv,
            kv_dtype_of(kv.front()) == DType::f8_e4m3, bf16_of(embedded),
            static_cast<float*>(logits.data),
            row_pieces_.at_least<std::byte>(own.pieces_bytes(batch), stream_), stream_);
  }

  void gather_rows(Matrix x, std::span<const int32_t> rows, Matrix out) override {
    check_gather(x, rows, out);
    const auto bytes = static_cast<int64_t>(rows.size_bytes());
    auto* indices = indices_.at_least<int32_t>(std::max(bytes, kLeastIndexBytes), stream_);
    staging_->copy(indices, rows.data(), bytes);
    cuda::gather_rows(bf16_of(x), indices, bf16_of(out), out.rows, out.cols, stream_);
  }

 private:
  static void check_residual(Matrix residual, Matrix product, const char* operation) {
    check_same_shape(residual, product, operation);
    if (residual.dtype != DType::bf16)
      throw Error::failed("products are added to bf16 alone", operation);
  }
  static const DeviceBatch& device(const Plan& plan) {
    return static_cast<const CudaPlan&>(plan).device();
  }
  static DType kv_dtype_of(const DeviceBuffer& kv) {
    return kv.dtype == DType::f8_e4m3 ? DType::f8_e4m3 : DType::bf16;
  }
  static AttentionLayer layer_of(const AttentionShape& shape, const DeviceBuffer& kv) {
    return {static_cast<int>(shape.heads),
            static_cast<int>(shape.kv_heads),
            static_cast<int>(shape.head_dim),
            shape.scale,
            kv.data.get(),
            kv.dtype == DType::f8_e4m3,
            kv.size_bytes /
                (2 * shape.kv_heads * kKvBlockTokens * shape.head_dim * size_of(kv_dtype_of(kv)))};
  }

  Uploader& uploader() {
    if (!uploader_) uploader_ = std::make_unique<Uploader>(pool_, stream_);
    return *uploader_;
  }

  // Where the codes of a layer's input go; parts of a layer quantize it alike (check_parts).
  QuantizedRows codes_for(const Linear& layer, int64_t rows) {
    QuantizedRows quantized;
    const CudaPart& part = static_cast<const CudaLinear&>(layer).parts().front();
    quantized.kind = part.input();
    if (quantized.kind == Codes::none) return quantized;
    quantized.stride = part.in_padded;
    quantized.codes = codes_.at_least<uint8_t>(rows * part.in_padded, stream_);
    quantized.scales = code_scales_.at_least<float>(rows * int64_t{sizeof(float)}, stream_);
    return quantized;
  }

  // What a product becomes: y, or its activated half, or what is added to y.
  enum class Result { plain, activated, added };

  void quantize_and_multiply(const Linear& layer, Matrix x, Matrix y, Result result) {
    if (x.rows == 0) return;
    const QuantizedRows quantized = codes_for(layer, x.rows);
    if (quantized.kind != Codes::none)
      quantize_rows(bf16_of(x), quantized, x.rows, x.cols, stream_);
    multiply(layer, x, quantized, y, result);
  }

  void multiply(const Linear& layer, Matrix x, const QuantizedRows& quantized, Matrix y,
                Result result) {
    for (const CudaPart& part : static_cast<const CudaLinear&>(layer).parts())
      multiply(part, x, quantized, y, result);
  }

  // Whether gate and up are one matrix of a kind whose kernel has the activation function in it,
  // and that is the faster way.
  bool has_gated_product(const std::vector<CudaPart>& parts, int64_t rows) const {
    if (portable_ || parts.size() != 1) return false;
    const CudaPart& part = parts.front();
    if (rows < kGatedRows && part.out < kGatedOuts) return false;
    if (part.kind == CudaPart::Kind::int4)
      return rows > kFewInt4Rows && part.out % (2 * kInt4Outs) == 0;
    return (part.kind == CudaPart::Kind::int8 || part.kind == CudaPart::Kind::fp8 ||
            (part.kind == CudaPart::Kind::bf16 && part.in % 8 == 0));
  }

  // largest: as Gemm has it.
  void multiply(const CudaPart& part, Matrix x, const QuantizedRows& quantized, Matrix y,
                Result result, uint32_t* largest = nullptr) {
    const bool gated = result == Result::activated;
    Output to;
    to.f32 = y.dtype == DType::f32;
    to.adds = result == Result::added;
    to.stride = y.cols;
    to.bias = part.bias.data ? floats_of(part.bias) : nullptr;
    to.data = static_cast<std::byte*>(y.data) + part.column * size_of(y.dtype);
    Gemm gemm;
    gemm.weight = part.weight.data.get();
    gemm.rows = x.rows;
    gemm.out = gated ? part.out / 2 : part.out;
    gemm.gated = gated;
    gemm.largest = largest;
    gemm.w_rows = part.out_padded();
    gemm.y = to;
    gemm.column_scale = floats_of(part.scale);
    if (part.input() != Codes::none) {
      gemm.x = quantized.codes;
      gemm.row_scale = quantized.scales;
      gemm.in = gemm.x_stride = gemm.w_stride = part.in_padded;
    } else {
      gemm.x = x.data;
      gemm.in = part.in;
      gemm.x_stride = part.in * 2;
      gemm.w_stride = part.in_padded * (part.kind == CudaPart::Kind::bf16 ? 2 : 1);
    }
    switch (part.kind) {
      case CudaPart::Kind::bf16:
        // Copies want rows that begin at multiples of 16 bytes.
        if (part.in % 8 == 0) return (portable_ ? portable_bf16 : gemm_bf16)(gemm, stream_);
        return skinny_bf16(static_cast<const __nv_bfloat16*>(part.weight.data.get()), part.out,
                           part.in, bf16_of(x), x.rows, to, stream_);
      case CudaPart::Kind::int8:
        return (portable_ ? portable_int8 : gemm_int8)(gemm, stream_);
      case CudaPart::Kind::fp8:
        return gemm_fp8(gemm, stream_);
      case CudaPart::Kind::fp8_weights:
        return portable_fp8(gemm, stream_);
      case CudaPart::Kind::int4:
        return (portable_ ? portable_int4
                : gated   ? gated_int4
                        : gemm_int4)(part.int4(), gemm.out, part.in, in_order(part, x), x.rows, to,
                                     stream_);
    }
  }

  // x with its columns in the order of the part's.
  const __nv_bfloat16* in_order(const CudaPart& part, Matrix x) {
    if (!part.columns.data) return bf16_of(x);
    auto* ordered = in_order_.at_least<__nv_bfloat16>(x.rows * x.cols * 2, stream_);
    gather_columns(bf16_of(x), static_cast<const int32_t*>(part.columns.data.get()), ordered,
                   x.rows, x.cols, stream_);
    return ordered;
  }

  bool portable_ = false;
  std::string description_;
  ThreadPool pool_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<StepMemory> step_memory_;
  std::unique_ptr<Uploader> uploader_;  // made for the first weight
  std::unique_ptr<Staging> staging_;
  GrowingBuffer codes_, code_scales_, largest_, in_order_, partials_, counters_, row_pieces_,
      indices_, targets_, divergences_;
  SummarySlots summaries_;
  Recordings recordings_;
  int growths_ = 0;       // of all growing buffers, when the recordings were made
  void* host_ = nullptr;  // page-locked
  int64_t host_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int threads, CudaKernels kernels) {
  return std::make_unique<CudaBackend>(threads, kernels);
}

}  // namespace narrow::ops::cuda
