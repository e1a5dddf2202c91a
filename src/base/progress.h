// A progress line with rate and remaining time: redrawn in place on a terminal, one plain line
// every ten seconds in a log. Silent under -q. Threads may share it.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace narrow {

class Progress {
 public:
  // label: what is done, "eval arc_challenge". unit: "documents". total <= 0: unknown.
  Progress(std::string label, int64_t total, std::string unit);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  // ends the line

  void advance(int64_t count = 1);
  // Work that was already there when the run began (resumed): counts as done, not into the rate.
  void skip(int64_t count);

 private:
  void draw(bool last);

  const std::string label_, unit_;
  const int64_t total_;
  const bool terminal_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;
  int64_t done_ = 0, skipped_ = 0;
  std::chrono::steady_clock::time_point drawn_;
};

// "1:05", "2:03:10".
std::string format_duration(double seconds);

}  // namespace narrow
