// How fast a checkpoint on disk loads, beside what the page cache gives plain reads of the same
// files: from opening to the engine and to its first token, twice, since what a process does once
// on a device is in the first; then the parts of it that interfaces tell apart.
//
//   load_rate FORMAT DIR [BACKEND]
//
// By default on cuda. A DIR without checkpoint gets one first, of a Llama-3.1-8B's shape with
// random weights in FORMAT: bf16, w8a8-fp, w8a8-int, w4a16-int or w4a16-awq.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "checkpoint/writer.h"
#include "engine/engine.h"
#include "synthetic_checkpoint.h"

namespace {

using namespace narrow;
namespace fs = std::filesystem;

constexpr double kGiga = 1e9;

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(endpoint::Clock::now() - start_).count();
  }

 private:
  const endpoint::Clock::time_point start_ = endpoint::Clock::now();
};

// Tensor by tensor, so that memory holds one of them.
void write_checkpoint(const std::string& format, const fs::path& directory) {
  const benchmarks::SyntheticCheckpoint source(benchmarks::kLlama8B, format);
  const Stopwatch watch;
  std::cout << fmt::format("writing a checkpoint in {} to {}", format, directory.string())
            << std::endl;
  checkpoint::Writer writer(directory);
  const auto copy = [&](const std::string& name) { writer.add(name, source.read(name)); };
  copy("model.embed_tokens.weight");
  for (int64_t i = 0; i < source.config().layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    copy(prefix + "input_layernorm.weight");
    copy(prefix + "post_attention_layernorm.weight");
    for (const char* name : model::kLinearNames)
      writer.add(prefix + name, source.read_linear(prefix + name));
  }
  copy("model.norm.weight");
  writer.add("lm_head", source.read_linear("lm_head"));
  writer.finish(source.documents());
  std::cout << fmt::format("written in {:.0f} s", watch.seconds()) << std::endl;
}

// The files of a directory, read in blocks that a thread's cache holds.
class Files {
 public:
  explicit Files(const fs::path& directory) {
    for (const auto& entry : fs::directory_iterator(directory)) {
      files_.emplace_back(entry.path());
      bytes_ += files_.back().size_bytes();
      for (int64_t at = 0; at < files_.back().size_bytes(); at += kBlockBytes)
        blocks_.push_back({files_.size() - 1, at});
    }
  }

  size_t count() const { return files_.size(); }
  int64_t bytes() const { return bytes_; }

  // Bytes per second.
  double rate(ThreadPool& pool) const {
    const Stopwatch watch;
    pool.parallel_for(static_cast<int64_t>(blocks_.size()), 1, [&](int64_t begin, int64_t end) {
      thread_local std::vector<std::byte> memory(kBlockBytes);
      for (int64_t i = begin; i < end; ++i) {
        const Block& block = blocks_[static_cast<size_t>(i)];
        const InputFile& file = files_[block.file];
        const int64_t size = std::min(kBlockBytes, file.size_bytes() - block.offset);
        file.read(block.offset, std::span(memory).first(static_cast<size_t>(size)));
      }
    });
    return static_cast<double>(bytes_) / watch.seconds();
  }

 private:
  static constexpr int64_t kBlockBytes = int64_t{1} << 20;
  struct Block {
    size_t file;
    int64_t offset;
  };
  std::vector<InputFile> files_;
  std::vector<Block> blocks_;
  int64_t bytes_ = 0;
};

struct Rates {
  double one_thread, all_threads;  // bytes per second
  int threads;
};

Rates measure_page_cache(const Files& files) {
  ThreadPool all, one(1);
  const double first = files.rate(all);
  const Rates rates{files.rate(one), files.rate(all), all.threads()};
  std::cout << fmt::format(
                   "page cache: {:.2f} GB/s by one thread, {:.2f} by {}; the first reading, from "
                   "disk where it was not cached: {:.2f}",
                   rates.one_thread / kGiga, rates.all_threads / kGiga, rates.threads,
                   first / kGiga)
            << std::endl;
  return rates;
}

std::string compared(const Files& files, double seconds, const Rates& rates) {
  const double rate = static_cast<double>(files.bytes()) / seconds;
  return fmt::format("{:.2f} s, {:.2f} GB/s ({:.0f} % of one thread, {:.0f} % of {})", seconds,
                     rate / kGiga, 100 * rate / rates.one_thread, 100 * rate / rates.all_threads,
                     rates.threads);
}

endpoint::GenerateRequest random_request(int64_t vocabulary) {
  std::mt19937 random(11);
  std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(vocabulary) - 1);
  endpoint::GenerateRequest request;
  for (int i = 0; i < 256; ++i) request.prompt.push_back(token(random));
  request.sampling.max_tokens = 1;
  request.sampling.ignore_eos = true;
  return request;
}

void load_engine(const std::string& name, const fs::path& directory, const engine::Options& options,
                 const endpoint::GenerateRequest& request, const Files& files, const Rates& rates) {
  const Stopwatch watch;
  engine::Engine engine(directory, options);
  const double constructed = watch.seconds();
  const endpoint::GenerateResult got = engine.generate(request).get();
  const double first_token = watch.seconds();
  if (got.token_ids.size() != 1) throw Error::failed("no token came: " + got.error);
  std::cout << fmt::format("{}: engine after {}, first token after {:.2f} s", name,
                           compared(files, constructed, rates), first_token)
            << std::endl;
}

// What an engine does before it takes requests, one after the other.
void load_parts(const fs::path& directory, const engine::Options& options, const Files& files,
                const Rates& rates) {
  const Stopwatch opening;
  const auto checkpoint = checkpoint::open(directory);
  const double opened = opening.seconds();
  const Stopwatch reading_tokenizer;
  const auto tokenizer = text::Tokenizer::from_json(checkpoint->documents().tokenizer,
                                                    checkpoint->documents().tokenizer_config);
  const double tokenizer_read = reading_tokenizer.seconds();
  const Stopwatch starting;
  const auto backend = ops::make_backend(options.backend, options.threads);
  const double started = starting.seconds();
  const Stopwatch loading;
  const model::Decoder decoder(*checkpoint, *backend, backend->engine_defaults().step_tokens);
  backend->synchronize();
  const double loaded = loading.seconds();
  const Stopwatch hashing;
  checkpoint->fingerprint();
  const double hashed = hashing.seconds();
  std::cout << fmt::format(
                   "apart: opening {:.2f} s, tokenizer {:.2f} s, backend {:.2f} s\n"
                   "  weights {}\n  fingerprint {}",
                   opened, tokenizer_read, started, compared(files, loaded, rates),
                   compared(files, hashed, rates))
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: load_rate FORMAT DIR [BACKEND]\n";
    return 2;
  }
  const std::string format = argv[1];
  const fs::path directory = argv[2];
  engine::Options options;
  options.backend = argc > 3 ? argv[3] : "cuda";
  if (!fs::exists(directory / "config.json")) write_checkpoint(format, directory);
  const auto checkpoint = checkpoint::open(directory);
  if (checkpoint->format() != format)
    throw Error::refused("a checkpoint in " + checkpoint->format(), directory.string(),
                         "name its format or another directory");
  const Files files(directory);
  std::cout << fmt::format("{}: {:.2f} GB in {} files", format,
                           static_cast<double>(files.bytes()) / kGiga, files.count())
            << std::endl;
  const Rates rates = measure_page_cache(files);
  const auto request = random_request(checkpoint->config().vocabulary);
  load_engine("first load", directory, options, request, files, rates);
  load_engine("second load", directory, options, request, files, rates);
  load_parts(directory, options, files, rates);
  return 0;
} catch (const narrow::Error& error) {
  std::cerr << "load_rate: " << error.what() << "\n";
  return error.exit_status();
}
