// A folder of a test's own, in the system's place for temporary files, which vanishes with it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace narrow {

class TemporaryDirectory {
 public:
  // Throws where no folder can be made.
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / kPattern).string();
    if (!mkdtemp(name.data())) throw Error::failed("no temporary folder can be made", name);
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;  // what a test has made unremovable stays
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  // Writes a file into it and returns its path.
  std::filesystem::path file(const std::string& name, const std::string& content) const {
    write_text(path_ / name, content);
    return path_ / name;
  }

 private:
  static constexpr const char* kPattern = "narrow-XXXXXX";  // mkdtemp() fills the last six letters

  std::filesystem::path path_;
};

}  // namespace narrow
