// What runs the work of a verb: the engine on MODEL, or a server named by --endpoint and --model.
#pragma once

#include <memory>
#include <string>

#include "cli/verbs.h"
#include "client/client.h"

namespace narrow::cli {

struct EndpointFlags {
  std::string url, model, key_variable, tokenizer;
  int concurrency = 16;            // requests in flight
  double requests_per_minute = 0;  // 0: as many as the server takes
  int64_t timeout_s = 600;
  int attempts = 6;

  bool used() const { return !url.empty(); }
};

// Adds --endpoint, --model, --api-key-env, --tokenizer, --requests-per-minute, --timeout and
// --attempts, and --concurrency unless the verb has one of its own.
void add_endpoint_flags(CLI::App& verb, EndpointFlags& flags, bool own_concurrency = false);

// The client of the server, asked beforehand whether it can do what is needed. The tokenizer is
// that of --tokenizer (a folder with tokenizer.json, or a .gguf file), or of --model where that is
// such a path; without one the client has none. Throws Error::refused.
std::unique_ptr<client::Client> open_client(const EndpointFlags& flags,
                                            const client::Client::Needs& needs);

// Exactly one of `model` and the flags must be given; for the server `needs` is asked beforehand.
// Throws Error::refused.
std::unique_ptr<endpoint::Endpoint> open_model_or_endpoint(const std::string& model,
                                                           const EndpointFlags& flags,
                                                           const Globals& globals,
                                                           const client::Client::Needs& needs);

}  // namespace narrow::cli
