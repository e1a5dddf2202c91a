// Landlock: the kernel's own access rules for an unprivileged process (landlock(7)). Structures and
// numbers are written out, since Debian 12's header is older than the kernels we run on.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "options.h"

namespace narrow_jail {
namespace {

constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;  // all architectures
constexpr unsigned kAskVersion = 1;
constexpr int kRulePathBeneath = 1;

struct Ruleset {
  uint64_t handled_files, handled_net, scoped;
};
struct __attribute__((packed)) PathRule {
  uint64_t allowed;
  int32_t parent_fd;
};

constexpr uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadDir = 1 << 3;

// All rights the kernel's version knows, so that what is not allowed below is refused.
uint64_t file_rights(long version) {
  if (version >= 5) return (1 << 16) - 1;  // device ioctl
  if (version >= 3) return (1 << 15) - 1;  // truncate
  if (version >= 2) return (1 << 14) - 1;  // refer
  return (1 << 13) - 1;
}

void allow(int ruleset, const std::string& path, uint64_t rights, int errors) {
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  struct stat about;
  if (fd < 0 || fstat(fd, &about) != 0) fail(errors, path);
  if (!S_ISDIR(about.st_mode)) rights &= ~kReadDir;
  const PathRule rule{rights, fd};
  if (syscall(kAddRule, ruleset, kRulePathBeneath, &rule, 0) != 0)
    fail(errors, "Landlock rule for " + path);
  close(fd);
}

}  // namespace

bool restrict_files(const Options& options, int errors) {
  const long version = syscall(kCreateRuleset, nullptr, 0, kAskVersion);
  if (version < 1) return false;
  Ruleset wanted{file_rights(version), 0, 0};
  size_t size = sizeof wanted.handled_files;
  if (version >= 4) {
    wanted.handled_net = 3;  // TCP bind and connect
    size = 2 * sizeof(uint64_t);
  }
  if (version >= 6) {
    wanted.scoped = 3;  // abstract sockets, signals
    size = sizeof wanted;
  }
  const int ruleset = static_cast<int>(syscall(kCreateRuleset, &wanted, size, 0));
  if (ruleset < 0) fail(errors, "Landlock rule set");
  constexpr uint64_t kRead = kExecute | kReadFile | kReadDir;
  for (const std::string& path : options.read) allow(ruleset, path, kRead, errors);
  allow(ruleset, options.python, kRead, errors);
  allow(ruleset, "/dev/null", kReadFile | kWriteFile, errors);
  allow(ruleset, "/dev/urandom", kReadFile, errors);
  if (syscall(kRestrictSelf, ruleset, 0) != 0) fail(errors, "Landlock");
  close(ruleset);
  return true;
}

}  // namespace narrow_jail
