#include "evaluate/ter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "evaluate/python_text.h"

namespace narrow::evaluate {
namespace {

// Words by number: equal words have equal numbers.
using Words = std::vector<int32_t>;

// Limits of Tercom, and of sacrebleu where it has its own (sacrebleu/metrics/lib_ter.py).
constexpr int64_t kLongestShift = 10;   // words
constexpr int64_t kFarthestShift = 50;  // words between where a run stands and where it should
constexpr int64_t kBeam = 25;           // cells on each side of the diagonal
constexpr int64_t kMostCandidates = 1000;
constexpr int64_t kUnreached = int64_t{1} << 50;

enum class Edit : char { none, match, substitute, remove, insert };  // words of the answer

struct Cell {
  int64_t cost = kUnreached;
  Edit edit = Edit::none;
};

// Cells of a row within the beam.
struct Row {
  int64_t first = 0;  // column
  std::vector<Cell> cells;
};

// Edit distance of answers of one length to a target, within the beam. An answer that begins with
// words of the one before goes on from its rows.
class EditDistance {
 public:
  explicit EditDistance(const Words& target) : target_(target) {}

  int64_t operator()(const Words& answer) {
    const auto rows = static_cast<int64_t>(answer.size());
    const int64_t columns = size();
    const double ratio = rows > 0 ? static_cast<double>(columns) / static_cast<double>(rows) : 1.0;
    const int64_t beam = static_cast<double>(kBeam) < ratio / 2
                             ? static_cast<int64_t>(std::ceil(ratio / 2 + kBeam))
                             : kBeam;
    if (rows_.empty()) {
      rows_.resize(answer.size() + 1);
      for (int64_t j = 0; j <= columns; ++j) rows_[0].cells.push_back({j, Edit::insert});
    }
    const auto [differs, other] = std::mismatch(
        answer.begin(), answer.begin() + static_cast<long>(before_.size()), before_.begin());
    const auto same = static_cast<int64_t>(differs - answer.begin());
    before_ = answer;
    for (int64_t i = same + 1; i <= rows; ++i) {
      const auto diagonal = static_cast<int64_t>(std::floor(static_cast<double>(i) * ratio));
      const int64_t end = i == rows ? columns + 1 : std::min(columns + 1, diagonal + beam);
      Row& row = rows_[static_cast<size_t>(i)];
      row.first = std::max<int64_t>(0, diagonal - beam);
      row.cells.clear();
      for (int64_t j = row.first; j < end; ++j) {
        Cell cell;
        // Of equal costs the first one offered counts.
        const auto offer = [&](int64_t cost, Edit edit) {
          if (cost < cell.cost) cell = {cost, edit};
        };
        if (j > 0) {
          const bool match =
              answer[static_cast<size_t>(i - 1)] == target_[static_cast<size_t>(j - 1)];
          offer(at(i - 1, j - 1).cost + (match ? 0 : 1), match ? Edit::match : Edit::substitute);
        }
        offer(at(i - 1, j).cost + 1, Edit::remove);
        if (j > 0) offer(at(i, j - 1).cost + 1, Edit::insert);
        row.cells.push_back(cell);
      }
    }
    return at(rows, columns).cost;
  }

  // Which words of the last answer and of the target are edited, and to which word of the answer
  // each of the target stands: that before it where it has none, -1 before the first.
  struct Alignment {
    std::vector<int64_t> of_target;
    std::vector<bool> answer_wrong, target_wrong;
  };
  Alignment align() const {
    auto i = static_cast<int64_t>(before_.size()), j = size();
    Alignment result{std::vector<int64_t>(target_.size()), std::vector<bool>(before_.size()),
                     std::vector<bool>(target_.size())};
    while (i > 0 || j > 0) {
      const Edit edit = at(i, j).edit;
      const bool wrong = edit != Edit::match;
      if (edit != Edit::insert) result.answer_wrong[static_cast<size_t>(i - 1)] = wrong;
      if (edit != Edit::remove) {
        result.of_target[static_cast<size_t>(j - 1)] = i - 1;
        result.target_wrong[static_cast<size_t>(j - 1)] = wrong;
      }
      i -= edit != Edit::insert;
      j -= edit != Edit::remove;
    }
    return result;
  }

 private:
  int64_t size() const { return static_cast<int64_t>(target_.size()); }
  // Unreached outside the beam.
  Cell at(int64_t i, int64_t j) const {
    const Row& row = rows_[static_cast<size_t>(i)];
    const int64_t column = j - row.first;
    return column >= 0 && column < static_cast<int64_t>(row.cells.size())
               ? row.cells[static_cast<size_t>(column)]
               : Cell();
  }

  const Words& target_;
  Words before_;
  std::vector<Row> rows_;  // by words of the answer
};

// `length` words from `start` on moved before the word at `to`; where that is one of their own, or
// the word behind them, as many words further back as it stands behind the first.
Words shifted(const Words& words, int64_t start, int64_t length, int64_t to) {
  Words result = words;
  const auto first = result.begin() + start, last = first + length;
  if (to < start) {
    std::rotate(result.begin() + to, first, last);
  } else {
    const int64_t end =
        to > start + length ? to : std::min(length + to, static_cast<int64_t>(words.size()));
    std::rotate(first, last, result.begin() + end);
  }
  return result;
}

struct Shift {
  std::tuple<int64_t, int64_t, int64_t, int64_t> rank;  // gain, length, -start, -to
  Words words;
};

// The shift of a run that both have, at different places and wrong at both, which gains most; of
// several the longest, the first, to the first place. `candidates` counts those tried.
std::optional<Shift> best_shift(const Words& answer, const Words& target, EditDistance& distance,
                                int64_t& candidates) {
  const int64_t cost = distance(answer);
  const EditDistance::Alignment alignment = distance.align();
  const auto any = [](const std::vector<bool>& wrong, int64_t begin, int64_t length) {
    return std::find(wrong.begin() + begin, wrong.begin() + begin + length, true) !=
           wrong.begin() + begin + length;
  };
  const auto answer_words = static_cast<int64_t>(answer.size()),
             target_words = static_cast<int64_t>(target.size());
  std::optional<Shift> best;
  for (int64_t start = 0; start < answer_words; ++start) {
    const int64_t first = std::max<int64_t>(0, start - kFarthestShift),
                  last = std::min(target_words - 1, start + kFarthestShift);
    for (int64_t at = first; at <= last; ++at) {
      const int64_t most = std::min({kLongestShift, answer_words - start, target_words - at});
      for (int64_t length = 1; length <= most; ++length) {
        if (answer[static_cast<size_t>(start + length - 1)] !=
            target[static_cast<size_t>(at + length - 1)])
          break;
        const int64_t stands = alignment.of_target[static_cast<size_t>(at)];
        if (!any(alignment.answer_wrong, start, length) ||
            !any(alignment.target_wrong, at, length) ||
            (start <= stands && stands < start + length))
          continue;
        int64_t before = -1;
        for (int64_t offset = -1; offset < length; ++offset) {
          const int64_t to =
              at + offset < 0 ? 0 : alignment.of_target[static_cast<size_t>(at + offset)] + 1;
          if (to == before) continue;
          before = to;
          Words words = shifted(answer, start, length, to);
          ++candidates;
          const std::tuple rank{cost - distance(words), length, -start, -to};
          if (!best || rank > best->rank) best = {rank, std::move(words)};
        }
        if (candidates >= kMostCandidates) return best;
      }
    }
  }
  return best;
}

}  // namespace

Edits translation_edits(const std::string& answer, const std::string& target) {
  std::map<std::string, int32_t> numbers;
  const auto words_of = [&](const std::string& text) {
    Words words;
    for (const std::string& word : python::split(python::lower(python::strip_right(text))))
      words.push_back(
          numbers.try_emplace(word, static_cast<int32_t>(numbers.size())).first->second);
    return words;
  };
  Words ours = words_of(answer);
  const Words theirs = words_of(target);
  if (theirs.empty()) return {static_cast<int64_t>(ours.size()), 0};
  EditDistance distance(theirs);
  int64_t shifts = 0, candidates = 0;
  while (auto shift = best_shift(ours, theirs, distance, candidates)) {
    if (candidates >= kMostCandidates || std::get<0>(shift->rank) <= 0) break;
    ++shifts;
    ours = std::move(shift->words);
  }
  return {shifts + distance(ours), static_cast<int64_t>(theirs.size())};
}

}  // namespace narrow::evaluate
