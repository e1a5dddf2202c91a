#include "store/sqlite.h"

#include "base/error.h"

namespace narrow::store {

Database::Database(const std::filesystem::path& file) : file_(file) {
  const int code =
      sqlite3_open_v2(file.c_str(), &handle_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
  if (code != SQLITE_OK) {
    const std::string message = handle_ ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
    sqlite3_close(handle_);
    throw Error::refused("cannot open the store: " + message, file_.string());
  }
}

Database::~Database() { sqlite3_close(handle_); }

void Database::check(int code, const char* action) const {
  if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return;
  const std::string what = std::string(action) + ": " + sqlite3_errmsg(handle_);
  if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
    throw Error::refused(what, file_.string(), "not a narrow store, or damaged");
  throw Error::failed(what, file_.string(),
                      code == SQLITE_FULL ? "free some space and run the command again" : "");
}

void Database::execute(const std::string& sql) {
  check(sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr), sql.c_str());
}

Statement::Statement(Database& database, const std::string& sql) : database_(database) {
  database_.check(sqlite3_prepare_v2(database_.handle(), sql.c_str(), -1, &handle_, nullptr),
                  sql.c_str());
}

Statement::~Statement() { sqlite3_finalize(handle_); }

Statement& Statement::bind(int index, std::string_view text) {
  database_.check(
      sqlite3_bind_text64(handle_, index, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8),
      "bind");
  return *this;
}

Statement& Statement::bind(int index, int64_t number) {
  database_.check(sqlite3_bind_int64(handle_, index, number), "bind");
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(handle_);
  database_.check(code, sqlite3_sql(handle_));
  return code == SQLITE_ROW;
}

void Statement::run() {
  step();
  reset();
}

void Statement::reset() { sqlite3_reset(handle_); }

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return data ? std::string(data, static_cast<size_t>(sqlite3_column_bytes(handle_, column)))
              : std::string();
}

int64_t Statement::number(int column) const { return sqlite3_column_int64(handle_, column); }

}  // namespace narrow::store
