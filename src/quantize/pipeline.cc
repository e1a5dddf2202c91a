#include "quantize/pipeline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/writer.h"
#include "model/layer.h"
#include "quantize/layer_quantizer.h"

namespace narrow::quantize {
namespace {

namespace fs = std::filesystem;

void refuse_non_finite(const Tensor& tensor, const std::string& name, const fs::path& model) {
  if (tensor.dtype() != DType::bf16 && tensor.dtype() != DType::f16 && tensor.dtype() != DType::f32)
    return;
  const Tensor wide = tensor.to(DType::f32);
  const auto values = wide.as<float>();
  int64_t count = 0, first = -1;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    if (count++ == 0) first = static_cast<int64_t>(i);
  }
  if (count > 0) {
    throw Error::refused(std::to_string(count) +
                             " values are NaN or infinite, the first at index " +
                             std::to_string(first),
                         model.string() + ", " + name, "the model is damaged");
  }
}

// Adds the inputs of a layer's linears to the statistics.
class Collector : public model::LinearObserver {
 public:
  Collector(Statistics& statistics, ThreadPool& pool) : statistics_(statistics), pool_(pool) {}
  void on_input(const std::string& name, ops::Matrix x) override {
    statistics_.try_emplace(name, x.cols).first->second.add(x.row<float>(0), x.rows, pool_);
  }

 private:
  Statistics& statistics_;
  ThreadPool& pool_;
};

// The calibration on its way through the layers. Needs a backend in host memory.
class Stream {
 public:
  Stream(const checkpoint::Checkpoint& model, const Calibration& calibration, ops::Backend& backend)
      : config_(model.config()), backend_(backend) {
    int64_t longest = 0;
    for (const auto& window : calibration.windows)
      longest = std::max(longest, static_cast<int64_t>(window.size()));
    if (longest > config_.context_tokens)
      throw Error::refused("calibration windows are longer than the model's context");
    workspace_ = std::make_unique<model::Workspace>(config_, backend, longest);
    rope_ = model::prepare_rope(model::make_rope_table(config_, longest), backend);
    const ops::KvShape shape{(longest + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens,
                             config_.kv_heads, config_.head_dim};
    kv_ = backend.allocate(shape.elements() * size_of(backend.kv_dtype()));
    const auto table = backend.prepare(model.read("model.embed_tokens.weight"));
    for (const auto& window : calibration.windows) {
      plans_.push_back(backend.plan(ops::single_sequence(window)));
      hidden_.push_back(backend.allocate(static_cast<int64_t>(window.size()) * config_.hidden *
                                         size_of(backend.activation_dtype())));
      backend.embed(*plans_.back(), table, {}, hidden(plans_.size() - 1));
    }
  }

  int64_t windows() const { return static_cast<int64_t>(plans_.size()); }

  // Runs a layer on copies of the hidden states, watching.
  void observe(const model::Layer& layer, model::LinearObserver& observer) {
    for (size_t w = 0; w < plans_.size(); ++w) {
      throw_if_interrupted();
      const ops::DeviceBuffer copy = copied(w);
      layer.forward(*plans_[w], rope_, matrix(copy, w), kv_, *workspace_, &observer);
    }
  }

  void advance(const model::Layer& layer) {
    for (size_t w = 0; w < plans_.size(); ++w) {
      throw_if_interrupted();
      layer.forward(*plans_[w], rope_, hidden(w), kv_, *workspace_);
    }
  }

  // What enters a half ("self_attn" or "mlp") of the layer `base` for window w, normed:
  // [rows, hidden], owned by the caller.
  ops::DeviceBuffer half_input(const model::Layer& base, const model::LayerWeights& weights,
                               const std::string& half, size_t w) {
    const ops::DeviceBuffer residual = copied(w);
    ops::DeviceBuffer normed_memory = backend_.allocate(residual.size_bytes);
    const ops::Matrix normed = matrix(normed_memory, w);
    const auto epsilon = static_cast<float>(config_.rms_norm_epsilon);
    backend_.rms_norm(matrix(residual, w), backend_.prepare(weights.input_norm), epsilon, normed);
    if (half == "mlp") {
      const ops::Matrix out = workspace_->block_out(normed.rows);
      base.attention(*plans_[w], rope_, normed, kv_, *workspace_, out);
      backend_.add(matrix(residual, w), out);
      backend_.rms_norm(matrix(residual, w), backend_.prepare(weights.post_attention_norm), epsilon,
                        normed);
    }
    return normed_memory;
  }

  // What comes out of that half of `layer`.
  std::vector<float> half_output(const model::Layer& layer, const std::string& half,
                                 const ops::DeviceBuffer& input, size_t w) {
    const ops::Matrix normed = matrix(input, w);
    const ops::Matrix out = workspace_->block_out(normed.rows);
    if (half == "mlp") {
      layer.mlp(normed, *workspace_, out);
    } else {
      layer.attention(*plans_[w], rope_, normed, kv_, *workspace_, out);
    }
    std::vector<float> result(static_cast<size_t>(out.rows * out.cols));
    backend_.download(std::as_writable_bytes(std::span(result)), out.data);
    return result;
  }

 private:
  ops::Matrix matrix(const ops::DeviceBuffer& buffer, size_t w) const {
    return {buffer.data.get(), backend_.activation_dtype(), plans_[w]->batch().rows(),
            config_.hidden};
  }
  ops::Matrix hidden(size_t w) const { return matrix(hidden_[w], w); }
  ops::DeviceBuffer copied(size_t w) {
    ops::DeviceBuffer copy = backend_.allocate(hidden_[w].size_bytes);
    backend_.upload(copy, {static_cast<const std::byte*>(hidden_[w].data.get()),
                           static_cast<size_t>(hidden_[w].size_bytes)});
    return copy;
  }

  const checkpoint::ModelConfig config_;
  ops::Backend& backend_;
  std::unique_ptr<model::Workspace> workspace_;
  model::Rope rope_;
  ops::DeviceBuffer kv_;
  std::vector<std::unique_ptr<ops::Plan>> plans_;
  std::vector<ops::DeviceBuffer> hidden_;
};

// Error of a half of the layer over the first windows, against the outputs it has unrounded.
HalfError half_error_of(Stream& stream, const model::LayerWeights& weights,
                        const checkpoint::ModelConfig& config, ops::Backend& backend,
                        int64_t windows) {
  struct Half {
    std::vector<ops::DeviceBuffer> inputs;  // by window
    std::vector<std::vector<float>> outputs;
  };
  struct Known {
    model::LayerWeights weights;
    std::unique_ptr<model::Layer> layer;
    std::map<std::string, Half> halves;
  };
  auto known = std::make_shared<Known>();
  known->weights = weights;
  known->layer = std::make_unique<model::Layer>(config, weights, backend);
  return [known, windows, &stream, &config, &backend](
             const std::string& name, const std::map<std::string, Tensor>& replaced) {
    throw_if_interrupted();
    Half& half = known->halves[name];
    for (auto w = half.inputs.size(); w < static_cast<size_t>(windows); ++w) {
      half.inputs.push_back(stream.half_input(*known->layer, known->weights, name, w));
      half.outputs.push_back(stream.half_output(*known->layer, name, half.inputs[w], w));
    }
    model::LayerWeights changed = known->weights;
    for (const auto& [linear, weight] : replaced) {
      changed.linears.at(linear).weight = weight.to(DType::bf16);
      changed.linears.at(linear).scheme = {};
    }
    const model::Layer layer(config, changed, backend);
    double error = 0;
    for (size_t w = 0; w < static_cast<size_t>(windows); ++w) {
      const auto got = stream.half_output(layer, name, half.inputs[w], w);
      for (size_t i = 0; i < got.size(); ++i) {
        const double difference = static_cast<double>(got[i]) - half.outputs[w][i];
        error += difference * difference;
      }
    }
    return error;
  };
}

int64_t directory_bytes(const fs::path& directory) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors")
      bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

}  // namespace

void Report::add(ModuleReport module) {
  // Weights that meet hardly any input may be far off where their error costs nothing: smoothing
  // and GPTQ move it there. What counts is the output, if it was measured.
  const double error = module.output_error >= 0 ? module.output_error : module.relative_error;
  if (error > 1)
    module.note += std::string(module.note.empty() ? "" : "; ") +
                   "its error is larger than the layer itself: do not use this checkpoint";
  const bool said = std::any_of(modules.begin(), modules.end(), [&](const ModuleReport& earlier) {
    return earlier.note == module.note;
  });
  if (!module.note.empty() && !said) notes.push_back(module.module + ": " + module.note);
  modules.push_back(std::move(module));
}

Json Report::to_json(const Recipe& recipe, const Calibration& calibration) const {
  Json layers = Json::array();
  for (const ModuleReport& module : modules) {
    Json entry{{"module", module.module}, {"relative_error", module.relative_error}};
    entry["output_error"] = module.output_error >= 0 ? Json(module.output_error) : Json();
    entry["group_size"] = module.group_size > 0 ? Json(module.group_size) : Json();
    entry["note"] = module.note.empty() ? Json() : Json(module.note);
    layers.push_back(std::move(entry));
  }
  const bool calibrated = recipe.needs_calibration();
  return {{"format", recipe.format},
          {"recipe", recipe.to_json()},
          {"calibration", calibrated ? calibration.name : ""},
          {"calibration_tokens", calibrated ? calibration.tokens() : 0},
          {"calibration_sha256", calibrated ? calibration.hash() : ""},
          {"layers", layers},
          {"notes", notes}};
}

Report quantize(const checkpoint::Checkpoint& model, const Recipe& recipe,
                const Calibration& calibration, const fs::path& directory, ops::Backend& backend,
                int threads) {
  const auto start = std::chrono::steady_clock::now();
  Report report;
  checkpoint::Writer writer(directory);
  const checkpoint::ModelConfig& config = model.config();
  ThreadPool pool(threads);
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
    const Tensor tensor = model.read(name);
    refuse_non_finite(tensor, name, model.path());
    writer.add(name, tensor);
  }
  std::unique_ptr<Stream> stream;
  if (recipe.needs_calibration()) {
    if (calibration.windows.empty())
      throw Error::refused("the recipe needs calibration text", recipe.name);
    stream = std::make_unique<Stream>(model, calibration, backend);
  }
  {
    Progress progress("quantize " + recipe.name, config.layers, "layers");
    for (int64_t i = 0; i < config.layers; ++i) {
      throw_if_interrupted();
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      model::LayerWeights weights = model::read_layer(model, i);
      for (const auto& [name, linear] : weights.linears) {
        if (!linear.scheme.dense())
          throw Error::refused("the model is quantized already",
                               model.path().string() + ", " + prefix + name);
        refuse_non_finite(linear.weight, prefix + name, model.path());
      }
      if (recipe.method != Recipe::Method::none) {
        Statistics statistics;
        HalfError half_error;
        if (stream) {
          Collector collector(statistics, pool);
          stream->observe(model::Layer(config, weights, backend), collector);
          if (recipe.method == Recipe::Method::awq)
            half_error = half_error_of(*stream, weights, config, backend,
                                       std::min(recipe.search_samples, stream->windows()));
        }
        LayerQuantizer(recipe, prefix, pool).quantize(weights, statistics, half_error, report);
        if (stream && i + 1 < config.layers)
          stream->advance(model::Layer(config, weights, backend));
      }
      writer.add(prefix + "input_layernorm.weight", weights.input_norm);
      writer.add(prefix + "post_attention_layernorm.weight", weights.post_attention_norm);
      for (const auto& [name, linear] : weights.linears) writer.add(prefix + name, linear);
      progress.advance();
    }
  }
  if (!config.tied_embeddings) writer.add("lm_head", model.read_linear("lm_head"));
  for (const std::string& note : report.notes) log::info("note: {}", note);
  Json provenance = report.to_json(recipe, calibration);
  provenance["source_sha256"] = model.fingerprint();
  writer.add_file("narrow.json", provenance.dump(1) + "\n");
  writer.finish(model.documents());
  report.checkpoint_bytes = directory_bytes(directory);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace narrow::quantize
