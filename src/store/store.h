// The study's rows in one SQLite file. Rows are keyed by what determines them, committed in groups
// (at most half a second or 256 rows are lost to a kill), and never rewritten. One process at a
// time holds a store; threads may share the object.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace narrow::store {

// One cell of the grid: what is run. `key` is everything that can change the answer; the id is the
// SHA-256 of kind and key, so a cell whose key changed is another cell.
struct Cell {
  std::string kind;    // "quantize", "eval", "similarity", "load", "environment"
  std::string format;  // "bf16", "w8a8-fp", ...
  std::string name;    // task or scenario: "arc_challenge", "chat/sync"
  Json key;

  std::string id() const;  // 64 hex digits
};

// One observation. Unique by (cell, index).
struct Row {
  int64_t index = 0;
  Json data;
};

class Store {
 public:
  // Creates or opens. Throws Error::refused for a file that is no narrow store or of a newer
  // version, or held by another process; Error::failed when SQLite's integrity check fails.
  explicit Store(const std::filesystem::path& file);
  ~Store();  // flushes

  // Study-wide facts: plan, model, version. A value is never changed silently: setting another
  // one under the same name throws Error::refused.
  void set_fact(const std::string& name, const Json& value);
  std::optional<Json> fact(const std::string& name) const;

  void add_cell(const Cell& cell);  // no effect when it is there
  void finish_cell(const Cell& cell);
  bool finished(const Cell& cell) const;
  std::vector<Cell> cells() const;  // in order of first appearance

  // Ignored when (cell, index) is there already.
  void append(const Cell& cell, const Row& row);
  // Blocks until all appended rows are on disk.
  void flush();
  std::vector<Row> rows(const Cell& cell) const;  // by index, appended ones included

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::store
