// The jail for programs that models write, and the oracle that judges them from outside.
//
// A run starts the helper `narrow-jail` (sandbox/helper/) anew, by posix_spawn: this process, which
// may hold device state, is never forked. The jailed interpreter is Debian's, /usr/bin/python3, or
// the first python3 of PATH; it sees its own library and nothing else, can write nowhere, reach no
// network, make no process and signal nobody. All of it shares the kernel: a hole in the kernel is
// outside what is promised.
//
// A Jail is immutable; threads may run programs side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"

namespace narrow::sandbox {

// How the jail is made, strongest first; each has the system-call filter and the limits too.
enum class Mode : char {
  namespaces =
      'A',  // own process, network, mount, … spaces, an own root, Landlock where there is one
  own_user = 'B',  // root without namespaces: a uid of its own and Landlock
  landlock = 'C',  // neither: Landlock
};

struct Limits {
  int64_t wall_ms = 25'000;
  int64_t cpu_s = 5;
  int64_t memory_bytes = int64_t{1} << 30;  // address space
};

struct Outcome {
  enum class End { exited, signalled, stopped };  // stopped: by the helper, for time or at the end
  End end = End::stopped;
  int code = 0;  // exit status or signal
  bool timed_out = false;
  int64_t cpu_ms = 0, wall_ms = 0;
  std::string out, err;  // the first kOutputBytes of each; the rest is read and dropped
  bool out_cut = false;
};
inline constexpr size_t kOutputBytes = 64 << 10;

// What the oracle said of a program.
struct Judged {
  Json verdict;            // "status", "detail", …; status "fail" where the oracle said nothing
  int64_t cpu_ms = 0;      // of the program
  bool timed_out = false;  // the helper ended both
};

class Jail {
 public:
  // Tries the modes from the strongest on, or only the one given, with canned attacks inside.
  // Throws Error::refused when none holds; there is no running without.
  static Jail probe();
  static Jail probe(Mode mode);

  Mode mode() const { return mode_; }
  // "mode A (namespaces), python 3.11.2 (/usr/bin/python3.11), numpy none"; in modes B and C also
  // why not the ones before.
  const std::string& description() const { return description_; }

  // Runs Python text alone. Throws Error::failed when the helper cannot make the jail.
  Outcome run(const std::string& program, const Limits& limits,
              const std::string& input = {}) const;

  // Gives the oracle a job (sandbox/python/oracle.py) and a program in a jail of its own to ask.
  Judged judge(const Json& job, const Limits& limits) const;

 private:
  Jail() = default;
  void check(std::string* versions) const;
  struct Ran;
  Ran start(const std::string& program, const std::string* oracle, const Limits& limits,
            const std::string& input, size_t output_bytes) const;

  Mode mode_ = Mode::namespaces;
  std::string helper_, python_, description_;
  std::vector<std::string> readable_;
};

}  // namespace narrow::sandbox
