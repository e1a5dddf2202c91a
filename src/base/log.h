// Messages for the person at the terminal. Everything goes to standard error, so that standard
// output carries results alone. Safe to call from any thread; a line is written whole.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace narrow::log {

enum class Level { debug, info, warning, error };

// Messages below `level` are dropped. Default: info. Verbs set debug for -v and warning for -q.
void set_level(Level level);
Level level();

void write(Level level, std::string_view message);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace narrow::log
