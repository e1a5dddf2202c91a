// The supervisor: starts the cells, waits, ends everything, reports.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "options.h"

namespace narrow_jail {
namespace {

constexpr int kReport = 3;
constexpr int kRefused = 78;  // EX_CONFIG: a layer is missing

int64_t now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1'000'000;
}

void report(const std::string& line) {
  // A reader that is gone ends the run through POLLERR below.
  [[maybe_unused]] const auto written = write(kReport, (line + "\n").data(), line.size() + 1);
}

[[noreturn]] void refuse(const std::string& what) {
  report("error " + what);
  _exit(kRefused);
}

int64_t number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    refuse("not a number: " + text);
  return value;
}

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const size_t at = argument.find('=');
    const std::string key = argument.substr(0, at),
                      value = at == std::string::npos ? "" : argument.substr(at + 1);
    if (key == "mode" && (value == "A" || value == "B" || value == "C")) {
      options.mode = value[0];
    } else if (key == "uid") {
      options.uid = static_cast<int>(number(value));
    } else if (key == "python") {
      options.python = value;
    } else if (key == "read") {
      options.read.push_back(value);
    } else if (key == "wall_ms") {
      options.wall_ms = number(value);
    } else if (key == "cpu_s") {
      options.cpu_s = number(value);
    } else if (key == "memory_bytes") {
      options.memory_bytes = number(value);
    } else if (key == "program") {
      options.program = value;
    } else if (key == "oracle") {
      options.oracle = value;
    } else {
      refuse("unknown argument: " + key);
    }
  }
  if (options.python.empty() || options.program.empty() || options.wall_ms == 0 ||
      options.cpu_s == 0 || options.memory_bytes == 0 || (geteuid() == 0 && options.uid == 0))
    refuse("an argument is missing");
  return options;
}

struct Running {
  pid_t pid = -1;
  int pidfd = -1;
  int status_fd = -1;
  bool ended = false;
  Status status{-1, 0};
};

void make_pipe(int (&ends)[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) refuse(std::string("pipe2: ") + std::strerror(errno));
}

// fork, in mode A into namespaces of its own: as root directly, otherwise inside a new user
// namespace, which needs no right.
pid_t start_process(char mode, bool& new_user) {
  new_user = false;
  if (mode != 'A') return fork();
  constexpr unsigned long kSpaces =
      CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
  if (geteuid() == 0) {
    const long pid = syscall(SYS_clone, kSpaces | SIGCHLD, 0, 0, 0, 0);
    if (pid >= 0 || errno != EPERM) return static_cast<pid_t>(pid);
  }
  new_user = true;
  return static_cast<pid_t>(syscall(SYS_clone, kSpaces | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}

Running launch(const Options& options, const Cell& cell) {
  int errors[2], life[2], status[2];
  make_pipe(errors);
  make_pipe(life);
  make_pipe(status);
  const unsigned uid = geteuid(), gid = getegid();
  Running running;
  bool new_user = false;
  running.pid = start_process(options.mode, new_user);
  if (running.pid < 0) refuse(std::string("starting a process: ") + std::strerror(errno));
  if (running.pid == 0) {
    close(life[1]);
    if (new_user) map_user(errors[1], uid, gid);
    enter_jail(options, cell, {errors[1], life[0], status[1]});
  }
  close(errors[1]);
  close(life[0]);
  close(status[1]);
  std::string text;
  char buffer[512];
  for (ssize_t n; (n = read(errors[0], buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno != EINTR) break;
    if (n > 0) text.append(buffer, n);
  }
  close(errors[0]);
  if (!text.empty()) {
    kill(running.pid, SIGKILL);
    refuse(text);
  }
  running.status_fd = status[0];
  running.pidfd = static_cast<int>(syscall(SYS_pidfd_open, running.pid, 0));
  if (running.pidfd < 0) {
    kill(running.pid, SIGKILL);
    refuse(std::string("pidfd_open: ") + std::strerror(errno));
  }
  return running;
}

void reap(const Options& options, Running& running, bool killed) {
  int status = 0;
  rusage usage{};
  while (wait4(running.pid, &status, 0, &usage) < 0 && errno == EINTR) continue;
  running.ended = true;
  const auto ms = [](const timeval& t) { return t.tv_sec * 1000 + t.tv_usec / 1000; };
  running.status = {killed ? -1 : status, ms(usage.ru_utime) + ms(usage.ru_stime)};
  if (options.mode != 'A') return;
  Status inner{};
  if (read(running.status_fd, &inner, sizeof inner) == sizeof inner) running.status = inner;
}

int supervise(const Options& options) {
  const int64_t begin = now_ms();
  // What a jailed process could leave behind becomes a child of this one, and ends with it.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) refuse("/dev/null cannot be opened");
  std::vector<Running> cells;
  if (options.oracle.empty()) {
    cells.push_back(launch(options, {&options.program, options.uid, options.cpu_s, {0, 1, 2}}));
  } else {
    int question[2], answer[2];
    make_pipe(question);
    make_pipe(answer);
    cells.push_back(launch(options, {&options.program,
                                     options.uid,
                                     options.cpu_s,
                                     {null, null, null, question[0], answer[1]}}));
    cells.push_back(launch(options, {&options.oracle,
                                     options.uid + 1,
                                     options.wall_ms / 1000 + 1,
                                     {0, 1, 2, answer[0], question[1]}}));
    for (const int fd : {question[0], question[1], answer[0], answer[1]}) close(fd);
  }
  // The run is over when its last cell ends: the oracle, or the program alone.
  for (const int fd : {0, 1, 2}) close(fd);
  Running& last = cells.back();
  bool timed_out = false;
  while (!last.ended) {
    const int64_t left = begin + options.wall_ms - now_ms();
    timed_out = left <= 0;
    if (timed_out) break;
    pollfd polls[] = {{last.pidfd, POLLIN, 0}, {kReport, 0, 0}};
    if (poll(polls, 2, static_cast<int>(left)) < 0 && errno != EINTR) break;
    if (polls[1].revents != 0) break;  // whoever asked is gone
    if (polls[0].revents != 0) reap(options, last, /*killed=*/false);
  }
  for (Running& cell : cells) {
    if (cell.ended) continue;
    // One that has ended by itself keeps its status: the pidfd says so.
    pollfd poll_one{cell.pidfd, POLLIN, 0};
    const bool by_itself = poll(&poll_one, 1, 0) == 1;
    kill(cell.pid, SIGKILL);
    reap(options, cell, !by_itself);
  }
  for (pid_t pid; (pid = waitpid(-1, nullptr, WNOHANG)) >= 0;)
    if (pid == 0) break;
  const auto line = [](const char* name, const Status& status) {
    report(std::string(name) + " " + std::to_string(status.status) + " " +
           std::to_string(status.cpu_ms));
  };
  line("program", cells[0].status);
  if (cells.size() == 2) line("oracle", cells[1].status);
  report("timed_out " + std::to_string(timed_out));
  report("wall_ms " + std::to_string(now_ms() - begin));
  return 0;
}

}  // namespace
}  // namespace narrow_jail

int main(int count, char** arguments) {
  signal(SIGPIPE, SIG_IGN);
  syscall(SYS_close_range, 4, ~0U, 0);
  return narrow_jail::supervise(narrow_jail::parse(count, arguments));
}
