// From a fresh process to a jailed interpreter.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "options.h"

namespace narrow_jail {
namespace {

constexpr int kMostFiles = 64;
constexpr int kMostThreads = 64;
constexpr int64_t kStackBytes = 64 << 20;

void write_file(int errors, const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    fail(errors, path);
  close(fd);
}

void limit(int errors, int resource, int64_t soft, int64_t hard) {
  const rlimit value{static_cast<rlim_t>(soft), static_cast<rlim_t>(hard)};
  if (setrlimit(static_cast<__rlimit_resource>(resource), &value) != 0) fail(errors, "setrlimit");
}

void set_limits(const Options& options, const Cell& cell, int errors) {
  limit(errors, RLIMIT_AS, options.memory_bytes, options.memory_bytes);
  limit(errors, RLIMIT_CPU, cell.cpu_s, cell.cpu_s + 1);
  limit(errors, RLIMIT_FSIZE, 0, 0);  // pipes are no files
  limit(errors, RLIMIT_NOFILE, kMostFiles, kMostFiles);
  limit(errors, RLIMIT_CORE, 0, 0);
  limit(errors, RLIMIT_STACK, kStackBytes, kStackBytes);
  limit(errors, RLIMIT_MEMLOCK, 0, 0);
  limit(errors, RLIMIT_MSGQUEUE, 0, 0);
  // Threads: counted over all processes of the uid, so only where the uid is the jail's own.
  if (options.mode == 'A' || geteuid() == static_cast<uid_t>(options.uid))
    limit(errors, RLIMIT_NPROC, kMostThreads, kMostThreads);
}

void drop_capabilities(int errors) {
  for (int capability = 0; capability < 64; ++capability)
    if (prctl(PR_CAPBSET_READ, capability) == 1 && prctl(PR_CAPBSET_DROP, capability) != 0 &&
        errno != EPERM)
      fail(errors, "PR_CAPBSET_DROP");
}

void clear_capabilities(int errors) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) fail(errors, "capset");
}

void die_with_supervisor(int errors, int life) {
  // After the change of uid, which clears it.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(errors, "PR_SET_PDEATHSIG");
  pollfd ended{life, 0, 0};
  if (poll(&ended, 1, 0) != 0) _exit(1);
}

// The first process of a process namespace: everything in it ends when this one does.
[[noreturn]] void keep(pid_t interpreter, int status_fd) {
  syscall(SYS_dup3, status_fd, 0, 0);
  syscall(SYS_close_range, 1, ~0U, 0);
  for (;;) {
    int status = 0;
    rusage usage{};
    const pid_t pid = wait4(-1, &status, 0, &usage);
    if (pid < 0 && errno != EINTR) _exit(1);
    if (pid != interpreter) continue;
    const auto ms = [](const timeval& t) { return t.tv_sec * 1000 + t.tv_usec / 1000; };
    const Status report{status, ms(usage.ru_utime) + ms(usage.ru_stime)};
    _exit(write(0, &report, sizeof report) == sizeof report ? 0 : 1);
  }
}

// cell.fds become 0, 1, 2, …, then the error pipe, which exec closes; all others go.
int arrange_descriptors(const Cell& cell, int errors) {
  std::vector<int> fds = cell.fds;
  fds.push_back(errors);
  // First out of each other's way.
  for (int& fd : fds) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 32);
    if (fd < 0) fail(errors, "F_DUPFD_CLOEXEC");
  }
  const int last = static_cast<int>(fds.size()) - 1;
  for (int i = 0; i <= last; ++i)
    if (dup3(fds[i], i == last ? last : i, i == last ? O_CLOEXEC : 0) < 0) fail(errors, "dup3");
  syscall(SYS_close_range, last + 1, ~0U, 0);
  return last;
}

}  // namespace

void fail(int errors, const std::string& what) {
  const std::string text = what + ": " + std::strerror(errno);
  [[maybe_unused]] const auto written = write(errors, text.data(), text.size());
  _exit(1);
}

void map_user(int errors, unsigned outer_uid, unsigned outer_gid) {
  const auto line = [](unsigned id) {
    return std::to_string(id) + " " + std::to_string(id) + " 1";
  };
  write_file(errors, "/proc/self/setgroups", "deny");
  write_file(errors, "/proc/self/uid_map", line(outer_uid));
  write_file(errors, "/proc/self/gid_map", line(outer_gid));
}

void enter_jail(const Options& options, const Cell& cell, const Pipes& pipes) {
  int errors = pipes.errors;
  // The likeliest to go when memory runs out. Not every container lets one write it.
  if (const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
    [[maybe_unused]] const auto written = write(fd, "1000", 4);
    close(fd);
  }
  setsid();
  if (options.mode == 'A') enter_tree(options, errors);
  drop_capabilities(errors);
  if (geteuid() == 0 && options.mode != 'C') {
    const bool taken = setgroups(0, nullptr) == 0 && setresgid(cell.uid, cell.uid, cell.uid) == 0 &&
                       setresuid(cell.uid, cell.uid, cell.uid) == 0;
    // In mode A inside a user namespace that maps only its maker there is no other uid to take.
    if (!taken && options.mode == 'B') fail(errors, "taking a uid of the jail's own");
  } else if (options.mode == 'B') {
    errno = EPERM;
    fail(errors, "taking a uid of the jail's own");
  }
  die_with_supervisor(errors, pipes.life);
  if (options.mode == 'A') {
    const pid_t interpreter = fork();
    if (interpreter < 0) fail(errors, "fork");
    if (interpreter > 0) keep(interpreter, pipes.status);
  }
  errors = arrange_descriptors(cell, errors);
  umask(077);
  if (chdir("/") != 0) fail(errors, "chdir");
  set_limits(options, cell, errors);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(errors, "PR_SET_NO_NEW_PRIVS");
  clear_capabilities(errors);
  if (!restrict_files(options, errors) && options.mode != 'A') fail(errors, "Landlock");
  // The last for numpy, whose libraries otherwise start a thread for each processor.
  const char* const environment[] = {
      "PATH=/usr/bin",     "LANG=C.UTF-8",           "HOME=/", "TMPDIR=/", "PYTHONHASHSEED=0",
      "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", nullptr};
  // Not -I: it would ignore PYTHONHASHSEED, and the order of a set of strings would change from run
  // to run. -s and -S leave out the user's and the site's packages.
  const char* const arguments[] = {options.python.c_str(), "-s",   "-S", "-B", "-c",
                                   cell.text->c_str(),     nullptr};
  restrict_system_calls(errors);
  execve(options.python.c_str(), const_cast<char**>(arguments), const_cast<char**>(environment));
  fail(errors, options.python);
}

}  // namespace narrow_jail
