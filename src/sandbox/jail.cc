#include "sandbox/jail.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <sstream>

#include "base/interrupt.h"
#include "sandbox/scripts.h"

namespace narrow::sandbox {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReportBytes = 64 << 10;
constexpr size_t kVerdictBytes = 32 << 20;
// Debian leaves 60000 to 64999 to be taken on demand. Two a run: the program's and the oracle's.
constexpr int kFirstUid = 64200;

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void failed(const std::string& what) {
  throw Error::failed("jail: " + what + ": " + std::strerror(errno));
}

// Above the numbers that the helper gets its descriptors on.
Fd lifted(int fd) {
  const Fd low(fd);
  Fd high(fcntl(fd, F_DUPFD_CLOEXEC, 10));
  if (high.get() < 0) failed("descriptor");
  return high;
}

struct Pipe {
  Fd ours, theirs;
};

Pipe reading_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) failed("pipe");
  Pipe pipe{Fd(ends[0]), lifted(ends[1])};
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) failed("pipe");
  return pipe;
}

// A socket, since writing to one whose reader is gone need not raise SIGPIPE.
Pipe writing_pipe() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) failed("socket pair");
  return {Fd(ends[0]), lifted(ends[1])};
}

struct Sink {
  Fd fd;
  size_t limit;
  std::string text;
  bool cut = false;

  // Takes what is there; false at the end.
  void take() {
    char buffer[1 << 16];
    for (;;) {
      const ssize_t n = read(fd.get(), buffer, sizeof buffer);
      if (n > 0) {
        const size_t room = std::min<size_t>(n, limit - text.size());
        text.append(buffer, room);
        cut = cut || room < static_cast<size_t>(n);
      } else if (n == 0) {
        fd.reset();
        return;
      } else if (errno == EINTR) {
        continue;
      } else {
        return;
      }
    }
  }
};

// A number that no other run of this process has at the same time.
class Slot {
 public:
  Slot() {
    const std::lock_guard lock(mutex());
    while (taken().contains(number_)) ++number_;
    taken().insert(number_);
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() {
    const std::lock_guard lock(mutex());
    taken().erase(number_);
  }
  int uid() const { return kFirstUid + 2 * number_; }

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  static std::set<int>& taken() {
    static std::set<int> instance;
    return instance;
  }
  int number_ = 0;
};

std::string find_helper() {
  std::error_code ignored;
  const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path() / "narrow-jail";
  for (const fs::path& path : {beside, fs::path(NARROW_JAIL_BINARY)})
    if (access(path.c_str(), X_OK) == 0) return path;
  throw Error::refused("narrow-jail is not there", beside.string(),
                       "it is built with narrow and belongs beside it");
}

std::string find_python() {
  std::vector<fs::path> candidates{"/usr/bin/python3"};
  std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    candidates.push_back(fs::path(folder) / "python3");
  for (const fs::path& path : candidates) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    if (!error && fs::is_regular_file(real, error)) return real;
  }
  throw Error::refused("no python3 to run programs with", "/usr/bin/python3",
                       "install Debian's python3");
}

// The interpreter's library and the shared libraries it needs.
std::vector<std::string> find_readable(const std::string& python) {
  std::vector<std::string> paths;
  const std::string prefix = fs::path(python).parent_path().parent_path();
  std::vector<std::string> candidates{"/usr/lib", "/usr/lib64", "/lib", "/lib64",
                                      "/etc/ld.so.cache"};
  if (prefix != "/usr" && prefix != "/") candidates.push_back(prefix + "/lib");
  for (const std::string& path : candidates)
    if (fs::exists(path)) paths.push_back(path);
  return paths;
}

int64_t number(std::istream& stream) {
  int64_t value = 0;
  if (!(stream >> value)) throw Error::failed("jail: the helper's report has no number");
  return value;
}

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::namespaces:
      return "namespaces";
    case Mode::own_user:
      return "own user";
    case Mode::landlock:
      return "Landlock only";
  }
  return "";
}

}  // namespace

struct Jail::Ran {
  Outcome last;  // the oracle's where there is one
  int64_t program_cpu_ms = 0;
};

Jail::Ran Jail::start(const std::string& program, const std::string* oracle, const Limits& limits,
                      const std::string& input, size_t output_bytes) const {
  const Slot slot;
  std::vector<std::string> arguments{
      helper_,
      fmt::format("mode={}", static_cast<char>(mode_)),
      fmt::format("uid={}", slot.uid()),
      "python=" + python_,
      fmt::format("wall_ms={}", limits.wall_ms),
      fmt::format("cpu_s={}", limits.cpu_s),
      fmt::format("memory_bytes={}", limits.memory_bytes),
      "program=" + program,
  };
  for (const std::string& path : readable_) arguments.push_back("read=" + path);
  if (oracle) arguments.push_back("oracle=" + *oracle);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  Pipe in = writing_pipe(), out = reading_pipe(), err = reading_pipe(), report = reading_pipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  int target = 0;
  for (const Pipe* pipe : {&in, &out, &err, &report})
    posix_spawn_file_actions_adddup2(&actions, pipe->theirs.get(), target++);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A group of its own: Ctrl-C ends it through the report that nobody reads any more.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  char* const environment[] = {nullptr};
  pid_t pid = -1;
  errno = posix_spawn(&pid, helper_.c_str(), &actions, &attributes, argv.data(), environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (errno != 0) failed(helper_);
  for (Pipe* pipe : {&in, &out, &err, &report}) pipe->theirs.reset();

  struct Waiter {  // the helper ends once the report is closed, whatever is thrown here
    pid_t pid;
    Fd* report;
    ~Waiter() {
      report->reset();
      while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
    }
  };
  Sink sinks[] = {{std::move(out.ours), output_bytes, {}},
                  {std::move(err.ours), kOutputBytes, {}},
                  {std::move(report.ours), kReportBytes, {}}};
  const Waiter waiter{pid, &sinks[2].fd};
  std::string_view rest = input;
  while (sinks[2].fd.get() >= 0) {
    throw_if_interrupted();
    pollfd polls[] = {{sinks[0].fd.get(), POLLIN, 0},
                      {sinks[1].fd.get(), POLLIN, 0},
                      {sinks[2].fd.get(), POLLIN, 0},
                      {in.ours.get(), POLLOUT, 0}};
    if (poll(polls, 4, 100) < 0 && errno != EINTR) failed("poll");
    for (int i = 0; i < 3; ++i)
      if (polls[i].revents != 0) sinks[i].take();
    if (polls[3].revents == 0) continue;
    const ssize_t sent = send(in.ours.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) rest.remove_prefix(sent);
    const bool gone = sent < 0 && errno != EAGAIN && errno != EINTR;
    if (rest.empty() || gone) in.ours.reset();
  }
  sinks[0].take();
  sinks[1].take();

  Ran ran;
  ran.last.out = std::move(sinks[0].text);
  ran.last.err = std::move(sinks[1].text);
  ran.last.out_cut = sinks[0].cut;
  bool reported = false;
  std::istringstream lines(sinks[2].text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word == "error")
      throw Error::failed("jail: " + line.substr(6),
                          fmt::format("mode {}", static_cast<char>(mode_)));
    if (word == "program" || word == "oracle") {
      const int64_t status = number(words);
      ran.last.cpu_ms = number(words);
      if (word == "program") ran.program_cpu_ms = ran.last.cpu_ms;
      const int wait = static_cast<int>(status);
      ran.last.end = status < 0        ? Outcome::End::stopped
                     : WIFEXITED(wait) ? Outcome::End::exited
                                       : Outcome::End::signalled;
      ran.last.code = status < 0 ? 0 : WIFEXITED(wait) ? WEXITSTATUS(wait) : WTERMSIG(wait);
    } else if (word == "timed_out") {
      ran.last.timed_out = number(words) != 0;
    } else if (word == "wall_ms") {
      ran.last.wall_ms = number(words);
      reported = true;
    }
  }
  if (!reported) throw Error::failed("jail: the helper ended without a report", helper_);
  return ran;
}

Outcome Jail::run(const std::string& program, const Limits& limits,
                  const std::string& input) const {
  return start(program, nullptr, limits, input, kOutputBytes).last;
}

Judged Jail::judge(const Json& job, const Limits& limits) const {
  static const std::string program = fmt::format("{}\n{}", wire_py(), program_py());
  static const std::string oracle =
      fmt::format("{}\n{}\n{}", wire_py(), evalplus_py(), oracle_py());
  const Ran ran = start(program, &oracle, limits, to_line(job), kVerdictBytes);
  Judged judged;
  judged.cpu_ms = ran.program_cpu_ms;
  judged.timed_out = ran.last.timed_out;
  const Outcome& outcome = ran.last;
  std::string why = "no verdict: " + outcome.err;
  if (outcome.end == Outcome::End::exited && outcome.code == 0 && !outcome.out_cut) {
    try {
      judged.verdict = parse_json(outcome.out, "the oracle's verdict",
                                  {.bytes = static_cast<int64_t>(kVerdictBytes), .depth = 700});
      return judged;
    } catch (const Error& error) {
      why = error.what();
    }
  }
  judged.verdict = {{"status", outcome.timed_out ? "timeout" : "fail"},
                    {"detail", outcome.timed_out ? "time" : why}};
  return judged;
}

// Throws unless everything the attempts of selftest.py try is refused.
void Jail::check(std::string* versions) const {
  const Limits limits{.wall_ms = 30'000, .cpu_s = 10};
  const Outcome outcome = run(std::string(selftest_py()), limits);
  std::istringstream lines(outcome.out);
  std::string line, python, numpy, possible;
  while (std::getline(lines, line) && line != "done")
    possible += (possible.empty() ? "" : ", ") + line;
  if (line != "done")
    throw Error::failed("jail: the self-test did not finish: " + outcome.err.substr(0, 300),
                        fmt::format("mode {}", static_cast<char>(mode_)));
  if (!possible.empty())
    throw Error::failed("jail: a program could " + possible,
                        fmt::format("mode {}", static_cast<char>(mode_)));
  std::getline(lines, python);
  std::getline(lines, numpy);
  *versions = fmt::format("python {} ({}), numpy {}", python, python_, numpy);
}

Jail Jail::probe(Mode mode) {
  Jail jail;
  jail.mode_ = mode;
  jail.helper_ = find_helper();
  jail.python_ = find_python();
  jail.readable_ = find_readable(jail.python_);
  std::string versions;
  jail.check(&versions);
  jail.description_ =
      fmt::format("mode {} ({}), {}", static_cast<char>(mode), name_of(mode), versions);
  return jail;
}

Jail Jail::probe() {
  std::string why;
  for (const Mode mode : {Mode::namespaces, Mode::own_user, Mode::landlock}) {
    try {
      Jail jail = probe(mode);
      jail.description_ += why;
      return jail;
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::failed) throw;
      why += fmt::format("; not mode {}: {}", static_cast<char>(mode), error.what());
    }
  }
  throw Error::refused("programs cannot be shut in here" + why, {},
                       "a kernel with Landlock (5.13) or user namespaces is needed; there is no "
                       "running without");
}

}  // namespace narrow::sandbox
