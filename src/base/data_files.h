// Finds what a user may change without a compiler: recipes/, tasks/, scenarios/, hardware/,
// suites/. Looked for in $NARROW_HOME, beside the binary's folder and in the source tree it was
// built from.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

// "recipes", "w4a16-int" → ".../recipes/w4a16-int.yaml". A `name` that is the path of an existing
// file is answered as it is. Throws Error::refused listing the names there are.
std::filesystem::path find_data_file(std::string_view folder, const std::string& name);

// Names (without ".yaml") of a folder, sorted.
std::vector<std::string> data_file_names(std::string_view folder);

// The folder itself ("recipes/calibration" too). Throws Error::refused when there is none.
std::filesystem::path data_folder(std::string_view folder);

}  // namespace narrow
