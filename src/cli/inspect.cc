#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "cli/verbs.h"

namespace narrow::cli {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;

constexpr const char* kFormats[] = {"bf16", "w8a8-fp", "w8a8-int", "w4a16-int", "w4a16-awq"};

struct Part {
  const char* module;
  int64_t out, in;
};

std::vector<Part> parts_of(const ModelConfig& config) {
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  return {{"self_attn.q_proj", q, config.hidden},
          {"self_attn.k_proj", kv, config.hidden},
          {"self_attn.v_proj", kv, config.hidden},
          {"self_attn.o_proj", config.hidden, q},
          {"mlp.gate_proj", config.intermediate, config.hidden},
          {"mlp.up_proj", config.intermediate, config.hidden},
          {"mlp.down_proj", config.hidden, config.intermediate}};
}

std::string describe(const QuantArgs& args) {
  std::string text =
      fmt::format("{}{}", args.type == QuantArgs::Type::integer ? "int" : "fp", args.bits);
  switch (args.strategy) {
    case QuantArgs::Strategy::tensor:
      text += " per tensor";
      break;
    case QuantArgs::Strategy::channel:
      text += " per channel";
      break;
    case QuantArgs::Strategy::token:
      text += " per token";
      break;
    case QuantArgs::Strategy::group:
      text += fmt::format(" group {}", args.group_size);
      break;
  }
  if (!args.symmetric) text += " asymmetric";
  return text;
}

std::string describe(const Scheme& scheme, const Checkpoint& model, const std::string& module) {
  if (scheme.dense()) return std::string(name_of(model.info(module + ".weight").dtype));
  std::string text = describe(*scheme.weights);
  if (scheme.inputs) text += ", inputs " + describe(*scheme.inputs);
  return text;
}

int64_t stored_bytes(const Checkpoint& model, const std::string& module) {
  int64_t bytes = 0;
  for (const char* tensor : {"weight", "weight_packed", "weight_scale", "weight_zero_point",
                             "weight_g_idx", "input_scale", "bias"}) {
    const std::string name = module + "." + tensor;
    if (!model.contains(name)) continue;
    const checkpoint::TensorInfo info = model.info(name);
    int64_t elements = 1;
    for (int64_t dim : info.shape) elements *= dim;
    bytes += elements * size_of(info.dtype);
  }
  return bytes;
}

// Layers that share a representation, per kind of linear.
Json layer_groups(const Checkpoint& model) {
  Json groups = Json::array();
  for (const Part& part : parts_of(model.config())) {
    const size_t first = groups.size();
    for (int64_t layer = 0; layer < model.config().layers; ++layer) {
      const std::string module = fmt::format("model.layers.{}.{}", layer, part.module);
      const std::string text = describe(model.scheme(module), model, module);
      auto same = std::find_if(groups.begin() + static_cast<std::ptrdiff_t>(first), groups.end(),
                               [&](const Json& group) { return group["scheme"] == text; });
      if (same == groups.end()) {
        groups.push_back({{"module", part.module},
                          {"shape", {part.out, part.in}},
                          {"layers", 0},
                          {"scheme", text},
                          {"bytes", 0}});
        same = groups.end() - 1;
      }
      (*same)["layers"] = (*same)["layers"].get<int64_t>() + 1;
      (*same)["bytes"] = (*same)["bytes"].get<int64_t>() + stored_bytes(model, module);
    }
  }
  return groups;
}

// The widest of the usual group sizes that divides the row.
int64_t group_for(int64_t in) {
  for (int64_t size : {128, 64, 32})
    if (in % size == 0) return size;
  return in;
}

int64_t weight_bytes(const ModelConfig& config, const char* format) {
  int64_t linear_weights = 0;
  double bits = 0;
  for (const Part& part : parts_of(config)) {
    const auto weights = static_cast<double>(part.out * part.in * config.layers);
    linear_weights += part.out * part.in * config.layers;
    bits += weights * bits_per_weight(scheme_of_format(format, group_for(part.in)), part.in);
  }
  // Embeddings, output matrix, norms and biases stay in bf16.
  return static_cast<int64_t>(bits / 8) + 2 * (config.parameters() - linear_weights);
}

int64_t kv_bytes_per_token(const ModelConfig& config) {
  return 2 * config.layers * config.kv_heads * config.head_dim * size_of(DType::bf16);
}

// MemAvailable, what can be used without swapping.
int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string key, unit; file >> key;) {
    int64_t kibibytes = 0;
    if (key == "MemAvailable:" && file >> kibibytes) return kibibytes * 1024;
    std::getline(file, unit);
  }
  throw Error::failed("no MemAvailable", "/proc/meminfo");
}

Json memory_table(const ModelConfig& config, int64_t memory) {
  Json table = Json::array();
  for (const char* format : kFormats) {
    const int64_t weights = weight_bytes(config, format);
    const int64_t tokens = std::max<int64_t>(0, memory - weights) / kv_bytes_per_token(config);
    table.push_back({{"format", format},
                     {"weight_bytes", weights},
                     {"fits", weights < memory},
                     {"context_tokens", tokens}});
  }
  return table;
}

Json inspect(const std::string& name) {
  const auto model = checkpoint::open(checkpoint::resolve_model(name));
  const ModelConfig& config = model->config();
  const int64_t memory = available_memory();
  return {{"model", name},
          {"family", config.family},
          {"format", model->format()},
          {"parameters", config.parameters()},
          {"layers", config.layers},
          {"hidden", config.hidden},
          {"heads", config.heads},
          {"kv_heads", config.kv_heads},
          {"head_dim", config.head_dim},
          {"intermediate", config.intermediate},
          {"vocabulary", config.vocabulary},
          {"context_tokens", config.context_tokens},
          {"tied_embeddings", config.tied_embeddings},
          {"groups", layer_groups(*model)},
          {"kv_bytes_per_token", kv_bytes_per_token(config)},
          {"available_memory_bytes", memory},
          {"formats", memory_table(config, memory)}};
}

double mebibytes(const Json& bytes) { return bytes.get<double>() / (1 << 20); }

void print(const Json& report) {
  fmt::print("{}: {}, {:.1f} M parameters, stored as {}\n", report["model"].get<std::string>(),
             report["family"].get<std::string>(), report["parameters"].get<double>() / 1e6,
             report["format"].get<std::string>());
  fmt::print(
      "{} layers, hidden {}, {} heads of {} ({} for keys and values), mlp {}, vocabulary {}{}, "
      "context {}\n\n",
      report["layers"].get<int64_t>(), report["hidden"].get<int64_t>(),
      report["heads"].get<int64_t>(), report["head_dim"].get<int64_t>(),
      report["kv_heads"].get<int64_t>(), report["intermediate"].get<int64_t>(),
      report["vocabulary"].get<int64_t>(), report["tied_embeddings"].get<bool>() ? " (tied)" : "",
      report["context_tokens"].get<int64_t>());
  fmt::print("{:<18} {:>6} {:>14} {:>10}  {}\n", "linear", "layers", "shape", "MiB", "scheme");
  for (const Json& group : report["groups"]) {
    fmt::print(
        "{:<18} {:>6} {:>14} {:>10.1f}  {}\n", group["module"].get<std::string>(),
        group["layers"].get<int64_t>(),
        fmt::format("{}x{}", group["shape"][0].get<int64_t>(), group["shape"][1].get<int64_t>()),
        mebibytes(group["bytes"]), group["scheme"].get<std::string>());
  }
  fmt::print("\nin {:.0f} MiB of available memory, {} bytes of KV cache a token:\n",
             mebibytes(report["available_memory_bytes"]),
             report["kv_bytes_per_token"].get<int64_t>());
  fmt::print("{:<12} {:>12} {:>6} {:>16}\n", "format", "weights MiB", "fits", "KV tokens beside");
  for (const Json& row : report["formats"]) {
    fmt::print("{:<12} {:>12.1f} {:>6} {:>16}\n", row["format"].get<std::string>(),
               mebibytes(row["weight_bytes"]), row["fits"].get<bool>() ? "yes" : "no",
               row["context_tokens"].get<int64_t>());
  }
}

}  // namespace

void add_inspect(CLI::App& app, Globals& globals) {
  auto model = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "inspect", "family, parameters, formats and memory of a model, without loading it");
  verb->add_option("MODEL", *model, "directory, .gguf file or hub name")->required();
  verb->footer(
      "Weights per format count scales and zero points, groups of 128 (64 or 32 where 128 does "
      "not\n"
      "divide the row); embeddings and norms stay in bf16.\n\n"
      "  narrow inspect models/smollm2\n"
      "  narrow inspect HuggingFaceTB/SmolLM2-135M-Instruct --json");
  add_globals(*verb, globals);
  verb->callback([model, &globals] {
    const Json report = inspect(*model);
    if (globals.json) {
      fmt::print("{}\n", report.dump(2));
    } else {
      print(report);
    }
  });
}

}  // namespace narrow::cli
