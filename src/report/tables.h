// The tables of a report, once for every form of output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analyse/analysis.h"

namespace narrow::report {

// An interval drawn beside its number: the difference to the baseline, with the margin as a band.
struct Strip {
  double low = 0, value = 0, high = 0;
  double margin = 0;
  double extent = 0;  // the axis runs from −extent to extent, alike in a table
};

struct Cell {
  std::string text;
  std::string detail;   // the interval, "−5.3 to +1.4": in smaller type below
  std::string source;   // first 12 hex digits of the cells behind the number, space-separated
  bool strong = false;  // only for what the rows support
  std::optional<Strip> strip;
  std::string format;  // non-empty: this cell names a format (gets its colour)
};

struct Table {
  std::string id, title, note;
  std::vector<std::string> columns;  // the first column is text, the others are numbers
  std::vector<std::vector<Cell>> rows;
};

Table overview_table(const analyse::Analysis& analysis);
// In the form of the study's tables of the leaderboards.
std::vector<Table> board_tables(const analyse::Analysis& analysis);
// The baseline against itself.
std::optional<Table> noise_table(const analyse::Analysis& analysis);
std::vector<Table> task_tables(const analyse::Analysis& analysis);
std::optional<Table> divergence_table(const analyse::Analysis& analysis);
std::optional<Table> text_table(const analyse::Analysis& analysis);
std::vector<Table> load_tables(const analyse::Analysis& analysis);  // synchronous, asynchronous
std::optional<Table> quantization_table(const analyse::Analysis& analysis);
std::optional<Table> environment_table(const analyse::Analysis& analysis);

// The commands that make the rows and the report again.
std::vector<std::string> reproduction(const analyse::Analysis& analysis);

}  // namespace narrow::report
