#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "base/log.h"

namespace narrow {

using Clock = std::chrono::steady_clock;

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_) {}

Progress::~Progress() {
  std::lock_guard lock(mutex_);
  draw(/*last=*/true);
}

void Progress::advance(int64_t count) {
  std::lock_guard lock(mutex_);
  done_ += count;
  const auto interval = terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (Clock::now() - drawn_ >= interval) draw(/*last=*/false);
}

void Progress::skip(int64_t count) {
  std::lock_guard lock(mutex_);
  done_ += count;
  skipped_ += count;
}

void Progress::draw(bool last) {
  if (log::level() > log::Level::info) return;
  drawn_ = Clock::now();
  const double seconds = std::chrono::duration<double>(drawn_ - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_ - skipped_) / seconds : 0;
  std::string line = total_ > 0 ? fmt::format("{} {}/{} {}", label_, done_, total_, unit_)
                                : fmt::format("{} {} {}", label_, done_, unit_);
  if (rate > 0) line += fmt::format(", {:.3g}/s", rate);
  if (last) {
    line += fmt::format(", took {}", format_duration(seconds));
  } else if (rate > 0 && total_ > done_) {
    line += fmt::format(", {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  }
  if (terminal_) {
    fmt::print(stderr, "\r\033[K{}{}", line, last ? "\n" : "");
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

}  // namespace narrow
