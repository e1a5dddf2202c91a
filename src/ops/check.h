// Checks that every backend makes before it touches memory: shapes agree, indices are in range.
// All throw Error::failed, since a wrong shape here is a fault of the caller, not of a file.
#pragma once

#include "ops/backend.h"

namespace narrow::ops {

void check_linear(const Linear& layer, Matrix x, Matrix y);
void check_same_shape(Matrix a, Matrix b, const char* operation);
void check_rms_norm(Matrix x, const DeviceBuffer& gamma, Matrix y);
void check_silu_mul(Matrix gate_up, Matrix y);
void check_embed(const Plan& plan, const DeviceBuffer& table, const DeviceBuffer& chosen,
                 Matrix out);
void check_summarize(Matrix logits, std::span<const LogitQuery> queries,
                     const DeviceBuffer& chosen);
void check_compare(Matrix p, Matrix q, std::span<const int32_t> targets);
// kv_element_bytes: size of one element of the cache.
void check_attention(const Plan& plan, const AttentionShape& shape, Matrix qkv,
                     const DeviceBuffer& kv_layer, int64_t kv_element_bytes);
void check_gather(Matrix x, std::span<const int32_t> rows, Matrix out);

// What prepare() refuses for every backend: parts that do not share the input width, shapes that
// do not fit the scheme, schemes that no backend here runs. Throws Error::refused.
void check_parts(std::span<const PackedLinear> parts);

// How a linear treats its input.
enum class InputKind { plain, int8_per_token, fp8_per_token };
InputKind input_kind(const Scheme& scheme);

}  // namespace narrow::ops
