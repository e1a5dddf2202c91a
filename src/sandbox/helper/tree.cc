// Mode A's root: a file system in memory that holds the interpreter and its libraries, read-only,
// and the two devices that programs expect. No /proc, no /etc, no place to write.
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "options.h"

namespace narrow_jail {
namespace {

// The mount point: a folder every system has. Only this process and its children see the mount.
constexpr const char* kRoot = "/tmp";

void make_parents(const std::string& path, int errors) {
  for (size_t at = 1; (at = path.find('/', at)) != std::string::npos; ++at)
    if (mkdir(path.substr(0, at).c_str(), 0755) != 0 && errno != EEXIST) fail(errors, "mkdir");
}

void set_attributes(const std::string& path, uint64_t attributes, bool recursive, int errors) {
  mount_attr wanted{};
  wanted.attr_set = attributes;
  // Sets without clearing: what is locked in a user namespace stays as it is.
  if (syscall(SYS_mount_setattr, AT_FDCWD, path.c_str(), recursive ? AT_RECURSIVE : 0, &wanted,
              sizeof wanted) != 0)
    fail(errors, "mount_setattr " + path);
}

void bind(const std::string& from, const std::string& to, uint64_t attributes, int errors) {
  struct stat about;
  if (stat(from.c_str(), &about) != 0) fail(errors, from);
  make_parents(to, errors);
  if (S_ISDIR(about.st_mode)) {
    if (mkdir(to.c_str(), 0755) != 0 && errno != EEXIST) fail(errors, "mkdir " + to);
  } else {
    const int fd = open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) fail(errors, "making " + to);
    close(fd);
  }
  if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    fail(errors, "binding " + from);
  set_attributes(to, attributes, /*recursive=*/true, errors);
}

}  // namespace

void enter_tree(const Options& options, int errors) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    fail(errors, "making mounts private");
  // Sources below the mount point would be hidden by it.
  if (mount("narrow-jail", kRoot, "tmpfs", MS_NOSUID | MS_NODEV,
            "size=1m,nr_inodes=256,mode=755") != 0)
    fail(errors, "mounting a file system in memory");
  const std::string root = kRoot;
  constexpr uint64_t kFiles = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  std::vector<std::string> paths = options.read;
  paths.push_back(options.python);
  for (const std::string& path : paths) {
    // /lib → usr/lib and the like stay links.
    char target[PATH_MAX];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length > 0) {
      make_parents(root + path, errors);
      if (symlink(std::string(target, length).c_str(), (root + path).c_str()) != 0)
        fail(errors, "linking " + path);
    } else {
      bind(path, root + path, kFiles, errors);
    }
  }
  for (const char* device : {"/dev/null", "/dev/urandom"})
    bind(device, root + device, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, errors);
  if (chdir(kRoot) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) fail(errors, "pivot_root");
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) fail(errors, "leaving the old root");
  set_attributes("/", kFiles | MOUNT_ATTR_NOEXEC, /*recursive=*/false, errors);
}

}  // namespace narrow_jail
