// Files with the fault points of the tests. Outputs appear by atomic rename, inputs are read with
// positioned reads (no mapping, so a file truncated while open is an Error and no SIGBUS).
//
// NARROW_FAULT="point:action:k" makes the k-th pass of a named point fail: actions are `eio`,
// `enospc`, `short` (reads) and `kill` (SIGKILL to oneself). Points: load.open, load.read,
// ckpt.write, ckpt.fsync, ckpt.rename, store.append, store.fsync.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace narrow {

// An open file for reading. Threads may share it.
class InputFile {
 public:
  // Opens a regular file. Throws Error::refused for a missing path, a directory, FIFO or device.
  explicit InputFile(const std::filesystem::path& path);

  // Opens `name`, a single path component, inside `directory`, following no link that leaves
  // `root` (hub caches link files into a sibling folder: pass the folder that holds both;
  // empty: `directory`). Throws Error::refused for names with a slash, NUL, "." or "..".
  static InputFile beneath(const std::filesystem::path& directory, std::string_view name,
                           const std::filesystem::path& root = {});

  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  int64_t size_bytes() const { return size_bytes_; }
  const std::filesystem::path& path() const { return path_; }

  // Fills `out` from `offset`. Throws Error when fewer bytes are there.
  void read(int64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(int fd, std::filesystem::path path);
  int fd_ = -1;
  int64_t size_bytes_ = 0;
  std::filesystem::path path_;
};

// An output that appears whole or not at all: bytes go to "<path>.partial", commit() syncs and
// renames. Without commit() the partial file is removed. Not to be shared between threads.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  int64_t written_bytes() const { return written_bytes_; }
  // Throws Error when the disk is full or the sync fails; a failed sync is final.
  void commit();

 private:
  std::filesystem::path path_, partial_;
  int fd_ = -1;
  int64_t written_bytes_ = 0;
};

// Whole contents. Refuses files above `limit_bytes`.
std::string read_text(const std::filesystem::path& path, int64_t limit_bytes = int64_t{1} << 30);
// Like read_text, decompressing when the name ends in ".gz" (limit on the decompressed size).
std::string read_text_maybe_gz(const std::filesystem::path& path,
                               int64_t limit_bytes = int64_t{1} << 30);
void write_text(const std::filesystem::path& path, std::string_view text);

// fsync of a directory, so that a rename inside it survives a power cut.
void sync_directory(const std::filesystem::path& path);

// Passes a fault point; throws or kills when NARROW_FAULT says so. `where` is for the message.
void fault_point(std::string_view point, const std::string& where);

}  // namespace narrow
