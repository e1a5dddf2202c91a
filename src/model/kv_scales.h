// Scales that a checkpoint brings for a cache of keys and values in 8 bits (kv_cache_scheme).
#pragma once

#include <map>
#include <string>

#include "checkpoint/checkpoint.h"

namespace narrow::model {

// Powers of two that a layer's keys and values are divided by on their way into the cache.
struct KvExponents {
  int keys = 0, values = 0;
};

// Of the scales under `attention` ("model.layers.0.self_attn."), rounded up: `k_scale` and
// `v_scale`, or `k_proj.output_scale` and `v_proj.output_scale` as files of 2024 have it. Of one
// scale per head the largest counts; without scales, and of those of other caches
// (Checkpoint::kv_scales_are_fp8), zero. e4m3 has the same relative precision at
// any power of two, so nothing is lost but room at the small end. Throws Error::refused for scales
// that are no positive numbers, or none that keys or values could have.
KvExponents read_kv_exponents(const checkpoint::Checkpoint& checkpoint,
                              const std::string& attention);

// Puts them into a layer's projections (keys: kLinearNames): what gives keys and values gives them
// divided, queries and the output projection take it back. So no kernel knows of scales, and a
// cache in another type gives the bits that it gave (but for scales of weights in f16, which become
// f32: products with them are not rounded to f16 then). Tensors that others share are not written
// to.
void fold_kv_exponents(const KvExponents& exponents, std::map<std::string, PackedLinear>& linears);

}  // namespace narrow::model
