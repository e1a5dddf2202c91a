#include "cli/model_or_endpoint.h"

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "engine/engine.h"

namespace narrow::cli {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  return fs::exists(file) ? read_text(file, int64_t{256} << 20) : "";
}

// Chat template of a folder: a file of its own, or a field of tokenizer_config.json, which is a
// text or a list with one named "default".
std::string template_of(const fs::path& folder, const std::string& tokenizer_config) {
  if (fs::exists(folder / "chat_template.jinja")) return text_of(folder / "chat_template.jinja");
  if (tokenizer_config.empty()) return "";
  const std::string where = (folder / "tokenizer_config.json").string();
  const Json value =
      json_get<Json>(parse_json(tokenizer_config, where), "chat_template", where, Json());
  if (value.is_string()) return value.get<std::string>();
  for (const Json& item : value.is_array() ? value : Json::array())
    if (json_get<std::string>(item, "name", where) == "default")
      return json_get<std::string>(item, "template", where);
  return "";
}

std::optional<client::Vocabulary> read_vocabulary(const EndpointFlags& flags) {
  const fs::path path = flags.tokenizer.empty() ? flags.model : flags.tokenizer;
  checkpoint::Documents documents;
  if (path.extension() == ".gguf" && fs::is_regular_file(path)) {
    documents = checkpoint::open(path)->documents();
  } else if (fs::is_regular_file(path / "tokenizer.json")) {
    documents.tokenizer = text_of(path / "tokenizer.json");
    documents.tokenizer_config = text_of(path / "tokenizer_config.json");
    documents.chat_template = template_of(path, documents.tokenizer_config);
  } else if (flags.tokenizer.empty()) {
    return std::nullopt;
  } else {
    throw Error::refused("neither a folder with a tokenizer.json nor a .gguf file",
                         flags.tokenizer);
  }
  return client::Vocabulary{
      text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config),
      documents.chat_template.empty()
          ? nullptr
          : std::make_unique<text::ChatTemplate>(documents.chat_template)};
}

std::string key_of(const EndpointFlags& flags) {
  if (flags.key_variable.empty()) return "";
  const char* key = std::getenv(flags.key_variable.c_str());
  if (!key || !*key)
    throw Error::refused("the environment variable is not set", flags.key_variable,
                         "it must hold the API key");
  return key;
}

}  // namespace

void add_endpoint_flags(CLI::App& verb, EndpointFlags& flags, bool own_concurrency) {
  CLI::Option* endpoint = verb.add_option(
      "--endpoint", flags.url, "a server of the OpenAI API instead of MODEL: http://HOST:PORT");
  CLI::Option* model = verb.add_option("--model", flags.model, "what the server calls its model");
  endpoint->needs(model);
  model->needs(endpoint);
  verb.add_option("--api-key-env", flags.key_variable, "environment variable with its API key")
      ->needs(endpoint);
  verb.add_option("--tokenizer", flags.tokenizer,
                  "folder with the served model's tokenizer.json, or its .gguf file")
      ->needs(endpoint);
  if (!own_concurrency)
    verb.add_option("--concurrency", flags.concurrency, "requests in flight at the server")
        ->capture_default_str()
        ->check(CLI::Range(1, 1024))
        ->needs(endpoint);
  verb.add_option("--requests-per-minute", flags.requests_per_minute,
                  "send no more than this; default: as many as the server takes")
      ->check(CLI::Range(0.001, 1e6))
      ->needs(endpoint);
  verb.add_option("--timeout", flags.timeout_s, "seconds a request may take")
      ->capture_default_str()
      ->check(CLI::Range(1, 86400))
      ->needs(endpoint);
  verb.add_option("--attempts", flags.attempts, "times a failed request is sent at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 100))
      ->needs(endpoint);
}

std::unique_ptr<client::Client> open_client(const EndpointFlags& flags,
                                            const client::Client::Needs& needs) {
  client::Options options;
  options.url = flags.url;
  options.model = flags.model;
  options.api_key = key_of(flags);
  options.concurrency = flags.concurrency;
  options.requests_per_minute = flags.requests_per_minute;
  options.timeout = std::chrono::seconds(flags.timeout_s);
  options.retry.attempts = flags.attempts;
  auto client = std::make_unique<client::Client>(std::move(options), read_vocabulary(flags));
  const client::Abilities abilities = client->prepare(needs);
  log::info("{}", client->info().backend);
  if (abilities.scoring)
    log::info("log-probabilities of prompts by {}", client::name_of(*abilities.scoring));
  return client;
}

std::unique_ptr<endpoint::Endpoint> open_model_or_endpoint(const std::string& model,
                                                           const EndpointFlags& flags,
                                                           const Globals& globals,
                                                           const client::Client::Needs& needs) {
  if (model.empty() != flags.used())
    throw Error::refused("give either a MODEL or --endpoint URL --model NAME");
  if (flags.used()) return open_client(flags, needs);
  return std::make_unique<engine::Engine>(
      checkpoint::resolve_model(model),
      engine::Options{
          .backend = globals.backend, .threads = globals.threads, .kv_dtype = globals.kv_dtype()});
}

}  // namespace narrow::cli
