#include "client/transport.h"

#include <curl/curl.h>

#include <exception>

#include "base/error.h"

namespace narrow::client {
namespace {

// What is kept of the body of a refusal: enough for its message.
constexpr size_t kRefusalBytes = 16 << 10;

struct Running {
  CURL* handle;
  const Exchange& exchange;
  Response& response;
  int64_t received_bytes = 0;
  std::exception_ptr thrown = nullptr;
};

size_t receive(char* data, size_t, size_t count, void* user) {
  auto& running = *static_cast<Running*>(user);
  Response& response = running.response;
  long status = 0;
  curl_easy_getinfo(running.handle, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) {
    response.body.append(data, std::min(count, kRefusalBytes - response.body.size()));
    // The rest of a long refusal is of no interest, but must not be read for ever.
    running.received_bytes += static_cast<int64_t>(count);
    return running.received_bytes > static_cast<int64_t>(1 << 20) ? 0 : count;
  }
  running.received_bytes += static_cast<int64_t>(count);
  if (running.received_bytes > running.exchange.limit_bytes) {
    response.outcome = Response::Outcome::too_large;
    return 0;
  }
  if (!running.exchange.sink) {
    response.body.append(data, count);
    return count;
  }
  try {
    running.exchange.sink(std::string_view(data, count));
  } catch (...) {
    running.thrown = std::current_exception();
    return 0;
  }
  return count;
}

size_t header(char* data, size_t, size_t count, void* user) {
  constexpr std::string_view kName = "retry-after:";
  std::string& value = static_cast<Running*>(user)->response.retry_after;
  const std::string_view line(data, count);
  if (line.size() > kName.size() && line.size() < 200 &&
      curl_strnequal(line.data(), kName.data(), kName.size()))
    value = line.substr(kName.size());
  return count;
}

int progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& running = *static_cast<Running*>(user);
  return running.exchange.stopped && running.exchange.stopped() ? 1 : 0;
}

}  // namespace

struct Transport::State {
  CURL* handle = nullptr;
  curl_slist* headers = nullptr;
  TransportOptions options;
  char message[CURL_ERROR_SIZE] = {};

  ~State() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(handle);
  }
};

Transport::Transport(const TransportOptions& options) : state_(std::make_unique<State>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  state_->handle = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (!state_->handle) throw Error::failed("libcurl failed to start");
  state_->options = options;
  for (const char* line : {"Content-Type: application/json", "Expect:"})
    state_->headers = curl_slist_append(state_->headers, line);
}

Transport::~Transport() = default;

Response Transport::send(const Exchange& exchange) {
  CURL* handle = state_->handle;
  const TransportOptions& options = state_->options;
  Response response;
  Running running{handle, exchange, response};
  curl_easy_reset(handle);  // options only: the connection stays
  curl_easy_setopt(handle, CURLOPT_URL, exchange.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "narrow");
  curl_easy_setopt(handle, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(options.connect_timeout.count()));
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout.count()));
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, state_->message);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, state_->headers);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &running);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &running);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &running);
  if (!options.api_key.empty()) {
    curl_easy_setopt(handle, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(handle, CURLOPT_XOAUTH2_BEARER, options.api_key.c_str());
  }
  if (!exchange.body.empty()) {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, exchange.body.data());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(exchange.body.size()));
  }
  state_->message[0] = '\0';
  const CURLcode code = curl_easy_perform(handle);
  if (running.thrown) std::rethrow_exception(running.thrown);
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  response.status = status;
  using Outcome = Response::Outcome;
  if (code == CURLE_OK || (status != 0 && status != 200 && code == CURLE_WRITE_ERROR)) {
    response.outcome = Outcome::answered;
  } else if (response.outcome == Outcome::too_large) {
    response.what = "the answer exceeds " + std::to_string(exchange.limit_bytes) + " bytes";
  } else if (code == CURLE_ABORTED_BY_CALLBACK) {
    response.outcome = Outcome::stopped;
    response.what = "stopped";
  } else {
    response.outcome = code == CURLE_OPERATION_TIMEDOUT ? Outcome::timed_out : Outcome::broken;
    response.what = state_->message[0] != '\0' ? state_->message : curl_easy_strerror(code);
  }
  return response;
}

}  // namespace narrow::client
