#include "client/sse.h"

#include "base/error.h"

namespace narrow::client {

SseReader::SseReader(int64_t limit_bytes, std::string where, Sink sink)
    : limit_bytes_(limit_bytes), where_(std::move(where)), sink_(std::move(sink)) {}

void SseReader::push(std::string_view bytes) {
  for (const char c : bytes) {
    const bool after_cr = after_cr_;
    after_cr_ = c == '\r';
    if (c == '\n' && after_cr) continue;  // the second half of CRLF
    if (c == '\n' || c == '\r') {
      end_line();
    } else {
      line_ += c;
      if (static_cast<int64_t>(line_.size() + data_.size()) > limit_bytes_)
        throw Error::failed(
            "an event of the stream exceeds " + std::to_string(limit_bytes_) + " bytes", where_);
    }
  }
}

void SseReader::finish() {
  if (!line_.empty()) end_line();
  end_event();
}

void SseReader::end_line() {
  std::string_view line = line_;
  if (first_line_ && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  first_line_ = false;
  if (line.empty()) {
    end_event();
  } else if (line == "data" || line.starts_with("data:")) {
    line.remove_prefix(std::min<size_t>(line.size(), 5));
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  line_.clear();
}

void SseReader::end_event() {
  if (has_data_) sink_(data_);
  data_.clear();
  has_data_ = false;
}

}  // namespace narrow::client
