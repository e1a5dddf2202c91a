// Server-sent events (WHATWG HTML, section 9.2) as a stream of bytes brings them: lines may end in
// LF, CRLF or CR and be cut anywhere; comments and fields other than "data" are left out. Bounded.
// Not to be shared between threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace narrow::client {

class SseReader {
 public:
  // Called with the data of each event; several data lines are joined by a line feed.
  using Sink = std::function<void(std::string_view data)>;

  // An event above `limit_bytes` is refused. `where` names the source in messages.
  SseReader(int64_t limit_bytes, std::string where, Sink sink);

  // Throws Error::failed for an event that is too large, and what the sink throws.
  void push(std::string_view bytes);
  // The stream has ended. A last event without the blank line behind it is whole all the same:
  // servers leave it out.
  void finish();

 private:
  void end_line();
  void end_event();

  const int64_t limit_bytes_;
  const std::string where_;
  const Sink sink_;
  std::string line_, data_;
  bool has_data_ = false, after_cr_ = false, first_line_ = true;
};

}  // namespace narrow::client
