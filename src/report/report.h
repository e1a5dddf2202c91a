// A study as something to read. Each writer is a pure function of the Analysis: the same rows give
// the same bytes. The page is one file without network access: styles, plots and data are inside,
// its Content-Security-Policy allows nothing else, and text from models or data sets is escaped,
// control and bidirectional characters made visible.
#pragma once

#include <filesystem>
#include <string>

#include "analyse/analysis.h"

namespace narrow::report {

std::string html(const analyse::Analysis& analysis);
std::string markdown(const analyse::Analysis& analysis);
// One table, long form: section, format, name, metric, value, low, high, source.
std::string csv(const analyse::Analysis& analysis);
std::string json(const analyse::Analysis& analysis);

// The recommendation and the main table, for a terminal.
std::string summary(const analyse::Analysis& analysis);

// The above to a file, by atomic rename. Throws Error::failed when the disk is full.
void write_html(const analyse::Analysis& analysis, const std::filesystem::path& path);
// format: "html", "md", "csv" or "json". Throws Error::refused for another.
void write(const analyse::Analysis& analysis, const std::string& format,
           const std::filesystem::path& path);

}  // namespace narrow::report
