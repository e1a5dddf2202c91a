// The two requests that a hub download needs. Follows redirects over http and https, sends the
// token to the first host only, bounds time and size. Not to be shared between threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace narrow::checkpoint {

struct HttpResponse {
  int64_t status = 0;
  std::string body;
};

// token: empty for none. Throws Error::failed when the server cannot be reached; a status of 400
// and above is returned, not thrown. Answers above `limit_bytes` are refused.
HttpResponse http_get(const std::string& url, const std::string& token, int64_t limit_bytes);

// Appends bytes [file size, expected_bytes) of `url` to `file`, so that an interrupted download
// continues. A server without ranges sends everything anew, and the file starts over. `advance` is
// told the bytes as they come. Throws Error::failed on network trouble (the file keeps what came)
// and when the server sends more than expected_bytes; Error::refused for a status of 400 to 499.
void http_download(const std::string& url, const std::string& token,
                   const std::filesystem::path& file, int64_t expected_bytes,
                   const std::function<void(int64_t)>& advance);

}  // namespace narrow::checkpoint
