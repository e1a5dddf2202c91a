#include "store/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "store/sqlite.h"

namespace narrow::store {
namespace {

constexpr int64_t kApplicationId = 0x6e617277;  // "narw"
constexpr int64_t kSchemaVersion = 1;

// One sync a group: a sync takes milliseconds, a row of an evaluation far less.
constexpr auto kCommitInterval = std::chrono::milliseconds(100);
constexpr size_t kCommitRows = 256;

std::string row_hash(const std::string& cell, int64_t index, const std::string& data) {
  return sha256_hex(cell + "\n" + std::to_string(index) + "\n" + data);
}

int64_t pragma(Database& database, const std::string& name) {
  Statement statement(database, "PRAGMA " + name);
  return statement.step() ? statement.number(0) : 0;
}

// One process at a time: an advisory lock on a file beside the store.
class Lock {
 public:
  explicit Lock(const std::filesystem::path& file) {
    fd_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0)
      throw Error::refused(std::string("cannot create the lock: ") + std::strerror(errno),
                           file.string());
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      close(fd_);
      throw Error::refused("the study is in use by another process", file.string(),
                           "wait for it or stop it");
    }
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() { close(fd_); }

 private:
  int fd_;
};

struct Pending {
  std::string cell;
  int64_t index;
  std::string data;
};

}  // namespace

std::string Cell::id() const {
  return sha256_hex(to_line({{"kind", kind}, {"format", format}, {"name", name}, {"key", key}}));
}

struct Store::State {
  explicit State(const std::filesystem::path& path)
      : lock(path.string() + ".lock"), database(path) {}

  Lock lock;
  std::mutex mutex;  // guards everything below
  Database database;
  std::vector<Pending> pending;
  std::set<std::pair<std::string, int64_t>> pending_ids;
  std::exception_ptr failure;
  bool stopping = false;
  std::condition_variable wake;
  std::thread committer;

  // Writes the pending rows in one transaction. REQUIRES: mutex held.
  void commit() {
    if (failure) std::rethrow_exception(failure);
    if (pending.empty()) return;
    database.execute("BEGIN IMMEDIATE");
    try {
      Statement insert(database,
                       "INSERT OR IGNORE INTO rows (cell, idx, data, hash) VALUES (?, ?, ?, ?)");
      for (const Pending& row : pending) {
        fault_point("store.append", "study store");
        insert.bind(1, row.cell)
            .bind(2, row.index)
            .bind(3, row.data)
            .bind(4, row_hash(row.cell, row.index, row.data));
        insert.run();
      }
      fault_point("store.fsync", "study store");
      database.execute("COMMIT");
    } catch (...) {
      sqlite3_exec(database.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
      throw;
    }
    pending.clear();
    pending_ids.clear();
  }

  void commit_periodically() {
    std::unique_lock guard(mutex);
    while (!stopping) {
      wake.wait_for(guard, kCommitInterval,
                    [&] { return stopping || pending.size() >= kCommitRows; });
      try {
        commit();
      } catch (...) {
        failure = std::current_exception();
        return;
      }
    }
  }
};

Store::Store(const std::filesystem::path& file) : state_(std::make_unique<State>(file)) {
  Database& database = state_->database;
  const int64_t application = pragma(database, "application_id");
  const int64_t version = pragma(database, "user_version");
  Statement count(database, "SELECT count(*) FROM sqlite_master");
  count.step();
  const bool fresh = count.number(0) == 0;
  count.reset();
  if (!fresh && application != kApplicationId)
    throw Error::refused("not a narrow store", file.string());
  if (!fresh && version > kSchemaVersion)
    throw Error::refused("made by a newer narrow (schema " + std::to_string(version) + ")",
                         file.string(), "use that version");
  // Rows survive a power cut, not only a kill: WAL with a sync at every commit.
  database.execute("PRAGMA journal_mode = WAL");
  database.execute("PRAGMA synchronous = FULL");
  if (fresh) {
    database.execute("BEGIN IMMEDIATE");
    database.execute("PRAGMA application_id = " + std::to_string(kApplicationId));
    database.execute("PRAGMA user_version = " + std::to_string(kSchemaVersion));
    database.execute(
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID");
    database.execute(
        "CREATE TABLE cells (ordinal INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
        " kind TEXT NOT NULL, format TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL,"
        " finished INTEGER NOT NULL DEFAULT 0)");
    database.execute(
        "CREATE TABLE rows (cell TEXT NOT NULL REFERENCES cells (id), idx INTEGER NOT NULL,"
        " data TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (cell, idx)) WITHOUT ROWID");
    database.execute("COMMIT");
  } else {
    Statement check(database, "PRAGMA quick_check(1)");
    if (check.step() && check.text(0) != "ok")
      throw Error::failed("the store is damaged: " + check.text(0), file.string());
  }
  state_->committer = std::thread([state = state_.get()] { state->commit_periodically(); });
}

Store::~Store() {
  {
    std::lock_guard guard(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  state_->committer.join();
  std::lock_guard guard(state_->mutex);
  try {
    state_->commit();
  } catch (...) {
    // A destructor has nobody to tell; whoever needs to know calls flush() first.
  }
}

void Store::set_fact(const std::string& name, const Json& value) {
  const std::string text = to_line(value);
  std::lock_guard guard(state_->mutex);
  Statement find(state_->database, "SELECT value FROM facts WHERE name = ?");
  find.bind(1, name);
  if (find.step()) {
    if (find.text(0) == text) return;
    throw Error::refused("the study already has another \"" + name + "\": " + find.text(0), {},
                         "use a new output directory");
  }
  Statement insert(state_->database, "INSERT INTO facts (name, value) VALUES (?, ?)");
  insert.bind(1, name).bind(2, text);
  insert.run();
}

std::optional<Json> Store::fact(const std::string& name) const {
  std::lock_guard guard(state_->mutex);
  Statement find(state_->database, "SELECT value FROM facts WHERE name = ?");
  find.bind(1, name);
  if (!find.step()) return std::nullopt;
  return parse_json(find.text(0), "study store, fact " + name);
}

void Store::add_cell(const Cell& cell) {
  std::lock_guard guard(state_->mutex);
  Statement insert(state_->database,
                   "INSERT OR IGNORE INTO cells (id, kind, format, name, key) VALUES (?,?,?,?,?)");
  insert.bind(1, cell.id())
      .bind(2, cell.kind)
      .bind(3, cell.format)
      .bind(4, cell.name)
      .bind(5, to_line(cell.key));
  insert.run();
}

void Store::finish_cell(const Cell& cell) {
  std::lock_guard guard(state_->mutex);
  state_->commit();
  Statement update(state_->database, "UPDATE cells SET finished = 1 WHERE id = ?");
  update.bind(1, cell.id());
  update.run();
}

bool Store::finished(const Cell& cell) const {
  std::lock_guard guard(state_->mutex);
  Statement find(state_->database, "SELECT finished FROM cells WHERE id = ?");
  find.bind(1, cell.id());
  return find.step() && find.number(0) == 1;
}

std::vector<Cell> Store::cells() const {
  std::lock_guard guard(state_->mutex);
  Statement all(state_->database, "SELECT kind, format, name, key FROM cells ORDER BY ordinal");
  std::vector<Cell> cells;
  while (all.step())
    cells.push_back(
        {all.text(0), all.text(1), all.text(2), parse_json(all.text(3), "study store")});
  return cells;
}

void Store::append(const Cell& cell, const Row& row) {
  std::string id = cell.id();
  std::string data = to_line(row.data);
  std::lock_guard guard(state_->mutex);
  if (state_->failure) std::rethrow_exception(state_->failure);
  if (!state_->pending_ids.emplace(id, row.index).second) return;
  state_->pending.push_back({std::move(id), row.index, std::move(data)});
  if (state_->pending.size() >= kCommitRows) state_->wake.notify_all();
}

void Store::flush() {
  std::lock_guard guard(state_->mutex);
  state_->commit();
}

std::vector<Row> Store::rows(const Cell& cell) const {
  const std::string id = cell.id();
  std::lock_guard guard(state_->mutex);
  state_->commit();
  Statement find(state_->database, "SELECT idx, data, hash FROM rows WHERE cell = ? ORDER BY idx");
  find.bind(1, id);
  std::vector<Row> rows;
  while (find.step()) {
    const std::string data = find.text(1);
    const std::string where =
        "study store, " + cell.kind + " " + cell.format + " " + cell.name + " row " + find.text(0);
    if (row_hash(id, find.number(0), data) != find.text(2))
      throw Error::failed("the row was changed after it was written", where);
    rows.push_back({find.number(0), parse_json(data, where)});
  }
  return rows;
}

}  // namespace narrow::store
