#include "checkpoint/http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/interrupt.h"

namespace narrow::checkpoint {
namespace {

using Curl = std::unique_ptr<CURL, void (*)(CURL*)>;

Curl start(const std::string& url, const std::string& token) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  Curl curl(ready == CURLE_OK ? curl_easy_init() : nullptr, curl_easy_cleanup);
  if (!curl) throw Error::failed("libcurl failed to start");
  CURL* handle = curl.get();
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, 30L);
  // A transfer below 1 KiB/s for a minute is dead.
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1024L);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "narrow");
  if (!token.empty()) {
    // As an option, not as a header: libcurl keeps it from hosts that redirects lead to.
    curl_easy_setopt(handle, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(handle, CURLOPT_XOAUTH2_BEARER, token.c_str());
  }
  return curl;
}

int64_t status_of(CURL* handle) {
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

struct Body {
  std::string text;
  int64_t limit_bytes;
};

size_t collect(char* data, size_t, size_t count, void* user) {
  auto& body = *static_cast<Body*>(user);
  if (interrupted() || static_cast<int64_t>(body.text.size() + count) > body.limit_bytes) return 0;
  body.text.append(data, count);
  return count;
}

// Where a download goes, and what became of it.
struct Download {
  CURL* handle;
  int fd;
  int64_t have_bytes, expected_bytes;
  const std::function<void(int64_t)>& advance;
  bool started = false, too_long = false;
  int error = 0;
};

size_t store(char* data, size_t, size_t count, void* user) {
  auto& download = *static_cast<Download*>(user);
  if (interrupted()) return 0;
  const int64_t status = status_of(download.handle);
  if (status >= 300) return count;  // the body of a refusal is of no interest
  if (!download.started) {
    download.started = true;
    if (status == 200 && download.have_bytes > 0) {  // the range was not honoured
      if (ftruncate(download.fd, 0) != 0 || lseek(download.fd, 0, SEEK_SET) != 0) {
        download.error = errno;
        return 0;
      }
      download.have_bytes = 0;
    }
  }
  if (download.have_bytes + static_cast<int64_t>(count) > download.expected_bytes) {
    download.too_long = true;
    return 0;
  }
  for (size_t done = 0; done < count;) {
    const ssize_t put = write(download.fd, data + done, count - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      download.error = errno;
      return 0;
    }
    done += static_cast<size_t>(put);
  }
  download.have_bytes += static_cast<int64_t>(count);
  download.advance(static_cast<int64_t>(count));
  return count;
}

class FileDescriptor {
 public:
  explicit FileDescriptor(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644)) {
    if (fd_ < 0)
      throw Error::failed(std::string("cannot create: ") + std::strerror(errno), path.string());
  }
  FileDescriptor(const FileDescriptor&) = delete;
  ~FileDescriptor() { close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

HttpResponse http_get(const std::string& url, const std::string& token, int64_t limit_bytes) {
  const Curl curl = start(url, token);
  Body body{{}, limit_bytes};
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, collect);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  const CURLcode code = curl_easy_perform(curl.get());
  throw_if_interrupted();
  if (code == CURLE_WRITE_ERROR)
    throw Error::failed("the answer exceeds " + std::to_string(limit_bytes) + " bytes", url);
  if (code != CURLE_OK) throw Error::failed(curl_easy_strerror(code), url);
  return {status_of(curl.get()), std::move(body.text)};
}

void http_download(const std::string& url, const std::string& token,
                   const std::filesystem::path& file, int64_t expected_bytes,
                   const std::function<void(int64_t)>& advance) {
  const FileDescriptor fd(file);
  struct stat status;
  if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw Error::failed("not a regular file", file.string());
  // A longer file cannot be the beginning of what is wanted.
  if (status.st_size > expected_bytes && ftruncate(fd.get(), 0) == 0) status.st_size = 0;
  if (status.st_size == expected_bytes) return;
  const Curl curl = start(url, token);
  Download download{curl.get(), fd.get(), status.st_size, expected_bytes, advance};
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, store);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &download);
  if (status.st_size > 0)
    curl_easy_setopt(curl.get(), CURLOPT_RESUME_FROM_LARGE,
                     static_cast<curl_off_t>(status.st_size));
  const CURLcode code = curl_easy_perform(curl.get());
  throw_if_interrupted();
  if (download.error != 0)
    throw Error::failed(std::string("write failed: ") + std::strerror(download.error),
                        file.string());
  if (download.too_long)
    throw Error::failed(
        "the server sends more than the " + std::to_string(expected_bytes) + " bytes announced",
        url);
  // libcurl gives up by itself where a server ignores the range; start over without one.
  if (code == CURLE_RANGE_ERROR && status.st_size > 0) {
    if (ftruncate(fd.get(), 0) != 0)
      throw Error::failed(std::string("truncate failed: ") + std::strerror(errno), file.string());
    return http_download(url, token, file, expected_bytes, advance);
  }
  if (code != CURLE_OK) throw Error::failed(curl_easy_strerror(code), url);
  const int64_t answer = status_of(curl.get());
  if (answer >= 400 && answer < 500 && answer != 429)
    throw Error::refused("the server answers " + std::to_string(answer), url);
  if (answer >= 300) throw Error::failed("the server answers " + std::to_string(answer), url);
  if (download.have_bytes != expected_bytes)
    throw Error::failed("the transfer ended after " + std::to_string(download.have_bytes) + " of " +
                            std::to_string(expected_bytes) + " bytes",
                        url);
  if (fsync(fd.get()) != 0)
    throw Error::failed(std::string("sync failed: ") + std::strerror(errno), file.string());
}

}  // namespace narrow::checkpoint
