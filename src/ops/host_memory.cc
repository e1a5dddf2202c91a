#include "ops/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "ops/check.h"

namespace narrow::ops {

DeviceBuffer HostBackend::allocate(int64_t bytes) {
  const Tensor memory(DType::u8, {bytes});
  DeviceBuffer buffer;
  buffer.size_bytes = bytes;
  // The buffer keeps the tensor's bytes alive.
  auto owner = std::make_shared<Tensor>(memory);
  buffer.data = std::shared_ptr<void>(owner, owner->data());
  return buffer;
}

int64_t HostBackend::free_bytes() const {
  return int64_t{sysconf(_SC_AVPHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

void HostBackend::upload(const DeviceBuffer& to, std::span<const std::byte> from) {
  if (static_cast<int64_t>(from.size()) > to.size_bytes)
    throw Error::failed("upload beyond the end of the buffer");
  std::memcpy(to.data.get(), from.data(), from.size());
}

void HostBackend::download(std::span<std::byte> to, const void* from) {
  std::memcpy(to.data(), from, to.size());
}

DeviceBuffer HostBackend::prepare(const Tensor& tensor) {
  const bool kept = tensor.shape().size() == 2 && tensor.dtype() == DType::bf16;
  const Tensor converted = kept ? tensor : tensor.to(DType::f32);
  DeviceBuffer buffer = allocate(converted.size_bytes());
  buffer.dtype = converted.dtype();
  upload(buffer, converted.raw());
  return buffer;
}

std::unique_ptr<Plan> HostBackend::plan(Batch batch) {
  if (batch.positions.size() != batch.tokens.size())
    throw Error::failed("a batch needs one position per token");
  return std::make_unique<Plan>(std::move(batch));
}

void HostBackend::embed(const Plan& plan, const DeviceBuffer& table, Matrix out) {
  check_embed(plan, table, out);
  for (int64_t r = 0; r < out.rows; ++r) {
    const int64_t first = int64_t{plan.batch().tokens[static_cast<size_t>(r)]} * out.cols;
    float* to = out.row<float>(r);
    if (table.dtype == DType::bf16) {
      const bf16* from = static_cast<const bf16*>(table.data.get()) + first;
      for (int64_t c = 0; c < out.cols; ++c) to[c] = to_float(from[c]);
    } else {
      std::copy(floats(table) + first, floats(table) + first + out.cols, to);
    }
  }
}

void HostBackend::gather_rows(Matrix x, std::span<const int32_t> rows, Matrix out) {
  check_gather(x, rows, out);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.row<float>(static_cast<int64_t>(i)), x.row<float>(rows[i]),
                static_cast<size_t>(x.cols) * sizeof(float));
  }
}

}  // namespace narrow::ops
