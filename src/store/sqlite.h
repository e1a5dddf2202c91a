// A thin, throwing wrapper of the SQLite calls the store makes. Not to be shared between threads.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace narrow::store {

class Database {
 public:
  explicit Database(const std::filesystem::path& file);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // Runs statements that return nothing.
  void execute(const std::string& sql);
  sqlite3* handle() const { return handle_; }
  // Throws Error::failed with SQLite's own message unless `code` is a success.
  void check(int code, const char* action) const;

 private:
  std::filesystem::path file_;
  sqlite3* handle_ = nullptr;
};

// A prepared statement; reset() makes it ready to run again.
class Statement {
 public:
  Statement(Database& database, const std::string& sql);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  Statement& bind(int index, std::string_view text);  // index from 1
  Statement& bind(int index, int64_t number);
  bool step();  // true while there is a row
  void run();   // one step, then reset
  void reset();
  std::string text(int column) const;  // column from 0
  int64_t number(int column) const;

 private:
  Database& database_;
  sqlite3_stmt* handle_ = nullptr;
};

}  // namespace narrow::store
