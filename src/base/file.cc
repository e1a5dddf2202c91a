#include "base/file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

std::string system_message() { return std::strerror(errno); }

int open_beneath(const fs::path& root, const fs::path& relative) {
  const int directory = open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, directory, relative.c_str(), &how, sizeof(how));
  const int code = errno;
  close(directory);
  errno = code;
  return static_cast<int>(fd);
}

struct Fault {
  std::string point, action;
  int64_t pass = 0;
};

Fault parse_fault(const std::string& value) {
  const size_t first = value.find(':'), second = value.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos)
    throw Error::refused("expected point:action:k", "NARROW_FAULT");
  return {value.substr(0, first), value.substr(first + 1, second - first - 1),
          std::atoll(value.c_str() + second + 1)};
}

// 0, or the errno that the k-th pass of this point is to fail with.
int injected_error(std::string_view point) {
  const char* configured = std::getenv("NARROW_FAULT");
  if (!configured) return 0;
  const Fault fault = parse_fault(configured);
  if (fault.point != point) return 0;
  static std::atomic<int64_t> passes{0};
  if (++passes != fault.pass) return 0;
  if (fault.action == "kill") std::raise(SIGKILL);
  if (fault.action == "enospc") return ENOSPC;
  return EIO;
}

}  // namespace

void fault_point(std::string_view point, const std::string& where) {
  if (const int code = injected_error(point)) throw Error::failed(std::strerror(code), where);
}

InputFile::InputFile(const fs::path& path)
    : InputFile(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), path) {}

InputFile::InputFile(int fd, fs::path path) : fd_(fd), path_(std::move(path)) {
  if (fd_ < 0) throw Error::refused("cannot open: " + system_message(), path_.string());
  struct stat status;
  if (fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd_);
    throw Error::refused("not a regular file", path_.string());
  }
  size_bytes_ = status.st_size;
  if (injected_error("load.open")) {
    close(fd_);
    throw Error::failed("cannot open: Input/output error", path_.string());
  }
}

InputFile InputFile::beneath(const fs::path& directory, std::string_view name,
                             const fs::path& root) {
  const std::string component(name);
  if (component.empty() || component == "." || component == ".." ||
      component.find('/') != std::string::npos || component.find('\0') != std::string::npos) {
    throw Error::refused(
        "a file name inside a model must be a single name, got \"" + component + "\"",
        directory.string());
  }
  const fs::path base = root.empty() ? directory : root;
  const fs::path relative = fs::relative(directory, base) / component;
  return InputFile(open_beneath(base, relative), directory / component);
}

InputFile::InputFile(InputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      size_bytes_(other.size_bytes_),
      path_(std::move(other.path_)) {}

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

void InputFile::read(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  fault_point("load.read", path_.string());
  while (done < out.size()) {
    const ssize_t got =
        pread(fd_, out.data() + done, out.size() - done, offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error::failed("read failed: " + system_message(), path_.string());
    if (got == 0) {
      throw Error::refused("the file ends at byte " +
                               std::to_string(offset + static_cast<int64_t>(done)) + ", " +
                               std::to_string(out.size() - done) + " bytes too early",
                           path_.string(), "truncated? copy or download it again");
    }
    done += static_cast<size_t>(got);
  }
}

OutputFile::OutputFile(const fs::path& path) : path_(path), partial_(path.string() + ".partial") {
  fd_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error::failed("cannot create: " + system_message(), partial_.string());
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(partial_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t put;
    if (const int code = injected_error("ckpt.write")) {
      errno = code;
      put = -1;
    } else {
      put = ::write(fd_, bytes.data(), bytes.size());
    }
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      throw Error::failed("write failed: " + system_message(), path_.string(),
                          errno == ENOSPC ? "free some space and run the command again" : "");
    }
    written_bytes_ += put;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::commit() {
  fault_point("ckpt.fsync", path_.string());
  if (fsync(fd_) != 0) throw Error::failed("sync failed: " + system_message(), path_.string());
  close(std::exchange(fd_, -1));
  fault_point("ckpt.rename", path_.string());
  if (rename(partial_.c_str(), path_.c_str()) != 0)
    throw Error::failed("cannot rename: " + system_message(), path_.string());
  sync_directory(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

std::string read_text(const fs::path& path, int64_t limit_bytes) {
  const InputFile file(path);
  if (file.size_bytes() > limit_bytes) {
    throw Error::refused("file has " + std::to_string(file.size_bytes()) +
                             " bytes, the limit here is " + std::to_string(limit_bytes),
                         path.string());
  }
  std::string text(static_cast<size_t>(file.size_bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string read_text_maybe_gz(const fs::path& path, int64_t limit_bytes) {
  if (path.extension() != ".gz") return read_text(path, limit_bytes);
  const std::string packed = read_text(path, limit_bytes);
  z_stream stream = {};
  // 16 + window bits: gzip framing.
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) throw Error::failed("zlib failed to start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  std::vector<char> chunk(1 << 16);
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    status = inflate(&stream, Z_NO_FLUSH);
    text.append(chunk.data(), chunk.size() - stream.avail_out);
    if (static_cast<int64_t>(text.size()) > limit_bytes) break;
    if (status == Z_STREAM_END && stream.avail_in > 0) status = inflateReset(&stream);
  }
  inflateEnd(&stream);
  if (static_cast<int64_t>(text.size()) > limit_bytes)
    throw Error::refused("decompresses to more than " + std::to_string(limit_bytes) + " bytes",
                         path.string());
  if (status != Z_STREAM_END) throw Error::refused("damaged gzip data", path.string());
  return text;
}

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw Error::failed("cannot open: " + system_message(), path.string());
  const int status = fsync(fd);
  close(fd);
  if (status != 0) throw Error::failed("sync failed: " + system_message(), path.string());
}

}  // namespace narrow
