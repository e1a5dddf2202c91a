// The tasks of a format, all side by side, so that the long answers of one leave no step of the
// engine empty, and prompts are made on more than one processor.
#pragma once

#include <atomic>
#include <deque>
#include <future>
#include <latch>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/progress.h"
#include "evaluate/run.h"
#include "store/store.h"

namespace narrow::study {

// Indices of the rows of a cell that are in the store.
std::set<int64_t> indices_of(const std::vector<store::Row>& rows);

class Evaluations {
 public:
  explicit Evaluations(store::Store& store) : store_(store) {}

  struct Item {
    const evaluate::Task* task;  // outlives finish()
    evaluate::RunOptions options;
    store::Cell cell;
    endpoint::Endpoint* endpoint;
  };
  // Evaluates what is missing of the items' cells. Returns when the endpoints have answered;
  // verdicts on programs may be missing until finish().
  void run(const std::string& label, const std::vector<Item>& items);
  // Until all verdicts are there. Throws what the first task that failed threw.
  void finish();

 private:
  struct Group;
  void evaluate(Group& group, const Item& item, const std::set<int64_t>& done);

  // Tasks that run side by side.
  struct Group {
    Group(const std::string& label, int64_t documents, size_t tasks)
        : progress(std::in_place, label + " tasks", documents, "documents"),
          unanswered(static_cast<std::ptrdiff_t>(tasks)),
          unfinished(static_cast<int64_t>(tasks)) {}
    std::optional<Progress> progress;  // until the last task is finished
    std::latch unanswered;             // tasks that may yet use the endpoint
    std::atomic<int64_t> unfinished;
    std::atomic<bool> failed = false;
    std::vector<std::future<void>> tasks;
  };

  store::Store& store_;
  std::deque<Group> groups_;
};

}  // namespace narrow::study
