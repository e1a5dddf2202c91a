// narrow-jail: runs one Python program, or a program and the oracle that judges it, in jails.
// A static program of its own, started anew for every run, so that nothing of the process that asks
// (device state, keys, open files) is in the memory or the descriptors of what it starts.
//
//     narrow-jail mode=A uid=64200 python=/usr/bin/python3.11 read=/usr/lib … wall_ms=… cpu_s=…
//                 memory_bytes=… program=TEXT [oracle=TEXT]
//
// Descriptors: 0, 1 and 2 are the program's, or the oracle's when there is one; 3 takes the report.
// The program beside an oracle has /dev/null there. Program and oracle speak through descriptors 3
// (in) and 4 (out) of each. The report is lines (`parse_report` in sandbox/jail.cc reads them):
//     error TEXT                     a jail could not be made; exit status 78
//     program|oracle STATUS CPU_MS   STATUS as waitpid gives it, -1: killed by the helper
//     timed_out 0|1, wall_ms N
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace narrow_jail {

struct Options {
  // A: namespaces and an own root, B: own uid and Landlock, C: Landlock. All have the system-call
  // filter and the limits; A has Landlock too where the kernel has it.
  char mode = 'A';
  int uid = 0;  // program's; the oracle has the next. Used by root only.
  std::string python;
  std::vector<std::string> read;  // what can be read, all else is absent (A) or refused (B, C)
  // cpu_s: the program's; an oracle may compute as long as the run lasts.
  int64_t wall_ms = 0, cpu_s = 0, memory_bytes = 0;
  std::string program, oracle;  // text for python -c; oracle empty: none
};

// One process to be jailed, and where its descriptors come from.
struct Cell {
  const std::string* text = nullptr;
  int uid = 0;
  int64_t cpu_s = 0;
  std::vector<int> fds;  // become 0, 1, 2, …
};

// Runs in the new process: shuts itself in and becomes the interpreter. Never returns; a failure is
// written to `errors`, which exec closes. `life` reads end-of-file once the supervisor is gone. In
// mode A this process stays as the first of its process namespace and writes the interpreter's
// status and processor time to `status`.
struct Pipes {
  int errors, life, status;
};
[[noreturn]] void enter_jail(const Options& options, const Cell& cell, const Pipes& pipes);

// Writes "WHAT: errno text" to the error pipe and ends the process.
[[noreturn]] void fail(int errors, const std::string& what);

// The parts of enter_jail, in order. Each ends the process through `fail`.
void map_user(int errors, unsigned outer_uid, unsigned outer_gid);  // of a new user namespace
void enter_tree(const Options& options, int errors);                // mode A: own root
// Landlock: reading below options.read (mode A: below /), nothing else; false: not in this kernel.
bool restrict_files(const Options& options, int errors);
void restrict_system_calls(int errors);  // last: refuses what all the others need

// What the keeper of mode A reports.
struct Status {
  int status;
  int64_t cpu_ms;
};

}  // namespace narrow_jail
