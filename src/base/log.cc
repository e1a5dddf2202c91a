#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

namespace narrow::log {
namespace {

std::atomic<Level> threshold{Level::info};
std::mutex output;

std::string_view prefix(Level level) {
  switch (level) {
    case Level::debug:
      return "debug: ";
    case Level::info:
      return "";
    case Level::warning:
      return "warning: ";
    case Level::error:
      return "error: ";
  }
  return "";
}

}  // namespace

void set_level(Level level) { threshold = level; }
Level level() { return threshold; }

void write(Level level, std::string_view message) {
  if (level < threshold.load()) return;
  const std::string line = fmt::format("{}{}\n", prefix(level), message);
  std::lock_guard lock(output);
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace narrow::log
