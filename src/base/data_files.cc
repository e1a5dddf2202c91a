#include "base/data_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace narrow {

namespace fs = std::filesystem;

fs::path data_folder(std::string_view folder) {
  std::vector<fs::path> roots;
  if (const char* home = std::getenv("NARROW_HOME")) roots.emplace_back(home);
  std::error_code ignored;
  const fs::path binary = fs::read_symlink("/proc/self/exe", ignored);
  if (!binary.empty()) {
    roots.push_back(binary.parent_path() / "share" / "narrow");
    roots.push_back(binary.parent_path().parent_path() / "share" / "narrow");
  }
  roots.emplace_back(NARROW_SOURCE_DIR);
  for (const fs::path& root : roots) {
    if (fs::is_directory(root / folder, ignored)) return root / folder;
  }
  throw Error::refused(fmt::format("no folder \"{}\" found", folder), {},
                       "set NARROW_HOME to the folder that holds it");
}

std::vector<std::string> data_file_names(std::string_view folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(data_folder(folder))) {
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path find_data_file(std::string_view folder, const std::string& name) {
  std::error_code ignored;
  if (fs::is_regular_file(name, ignored)) return name;
  const auto names = data_file_names(folder);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw Error::refused(fmt::format("\"{}\" is neither a file nor one of {}", name, folder), {},
                         fmt::format("there are: {}", fmt::join(names, ", ")));
  }
  return data_folder(folder) / (name + ".yaml");
}

}  // namespace narrow
