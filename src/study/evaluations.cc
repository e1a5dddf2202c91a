#include "study/evaluations.h"

#include <chrono>
#include <mutex>

#include "base/error.h"
#include "base/log.h"

namespace narrow::study {

std::set<int64_t> indices_of(const std::vector<store::Row>& rows) {
  std::set<int64_t> done;
  for (const store::Row& row : rows) done.insert(row.index);
  return done;
}

void Evaluations::run(const std::string& label, const std::vector<Item>& items) {
  std::vector<const Item*> left;
  std::vector<std::set<int64_t>> done;
  int64_t documents = 0, there = 0;
  for (const Item& item : items) {
    if (store_.finished(item.cell)) continue;
    left.push_back(&item);
    store_.add_cell(item.cell);
    done.push_back(indices_of(store_.rows(item.cell)));
    documents += evaluate::document_count(*item.task, item.options);
    there += static_cast<int64_t>(done.back().size());
  }
  if (left.empty()) return;
  Group& group = groups_.emplace_back(label, documents, left.size());
  group.progress->skip(there);
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < left.size(); ++i)
    group.tasks.push_back(
        std::async(std::launch::async, [this, &group, item = *left[i], done = std::move(done[i])] {
          evaluate(group, item, done);
        }));
  group.unanswered.wait();
  if (group.failed) finish();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log::info("{} tasks: {} documents answered in {:.1f} s, {:.0f}/s", label, documents - there,
            seconds, static_cast<double>(documents - there) / seconds);
}

void Evaluations::evaluate(Group& group, const Item& item, const std::set<int64_t>& done) {
  std::once_flag answered;
  const auto no_longer_asking = [&] {
    std::call_once(answered, [&] { group.unanswered.count_down(); });
  };
  try {
    evaluate::run(
        *item.task, *item.endpoint, item.options, done,
        [&](int64_t index, Json row) {
          if (group.failed) throw Error::failed("another task failed");
          store_.append(item.cell, {index, std::move(row)});
          group.progress->advance();
        },
        no_longer_asking);
    store_.finish_cell(item.cell);
    if (--group.unfinished == 0) group.progress.reset();
  } catch (...) {
    const bool first = !group.failed.exchange(true);
    no_longer_asking();
    // The first to fail says why; the others stop at their next row.
    if (first) throw;
  }
}

void Evaluations::finish() {
  for (; !groups_.empty(); groups_.pop_front()) {
    for (auto& task : groups_.front().tasks) task.wait();
    for (auto& task : groups_.front().tasks) task.get();
  }
}

}  // namespace narrow::study
