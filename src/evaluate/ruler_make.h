// What the generators of ruler.h share: draws as Python's `random` and NumPy's legacy generator
// make them, RULER's word lists, and its search for the size that fills a length.
#pragma once

#include <algorithm>
#include <map>
#include <optional>

#include "base/json.h"
#include "evaluate/numpy_random.h"
#include "evaluate/python_random.h"
#include "evaluate/ruler.h"

namespace narrow::evaluate::ruler {

// The global generators of a script, both seeded with its seed.
class Draws {
 public:
  explicit Draws(uint32_t seed) : python(seed), numpy(seed) {}

  PythonRandom python;
  NumpyRandom numpy;
  // ''.join(random.choices(letters, k=count)); first: 'a' or 'A'.
  std::string letters(char first, int count);
  std::string number();  // seven digits
  std::string uuid();
};

// random.Random(seed).shuffle(list).
template <class T>
void shuffle(std::vector<T>& list, uint32_t seed) {
  PythonRandom random(seed);
  for (int64_t i = static_cast<int64_t>(list.size()) - 1; i > 0; --i)
    std::swap(list[static_cast<size_t>(i)], list[static_cast<size_t>(random.below(i + 1))]);
}

// All pairs "adjective-noun" in the order of Python's sort, six million, without writing them down.
class NounPhrases {
 public:
  NounPhrases();  // from tasks/ruler
  int64_t size() const { return size_; }
  std::string at(int64_t index) const;

 private:
  struct Block {
    int64_t first;  // index of its first pair
    size_t adjective, noun;
  };
  // Pairs of one adjective; those of a longer one that begins with it stand in their midst.
  void add(size_t adjective);
  bool begins_with(size_t longer, size_t shorter) const;

  std::vector<std::string> adjectives_, nouns_;
  std::vector<Block> blocks_;
  std::vector<bool> added_;
  int64_t size_ = 0;
};

// nouns + adjectives + verbs, each once, sorted.
std::vector<std::string> all_words();
std::vector<std::string> lines_of(const std::string& file);  // of tasks/ruler

// "{name}" replaced in one pass, as str.format does.
std::string format(const std::string& text, const std::map<std::string, std::string>& values);
std::string replaced(std::string text, const std::string& from, const std::string& to);

struct Made {
  std::string text;  // prompt and answer prefix in one
  std::vector<std::string> outputs;
};
// A draw of the given size; none when the size is too small for it.
using Make = std::function<std::optional<Made>(int64_t size)>;

// Sizes: `step` at least; the largest for which one draw fits, found by bisection below `bound`.
int64_t find_size(int64_t step, int64_t bound, const std::function<bool(int64_t)>& fits);

// Draws until the text fits, `step` smaller each time; its tokens and `extra` in `length`.
struct Fitted {
  Made made;
  int64_t length = 0;
};
Fitted draw_fitting(int64_t size, int64_t step, int64_t limit, int64_t extra, const Make& make,
                    const TokenCounter& count, const std::string& task);

// Cuts the text at the last place that begins as the answer prefix does.
RulerSample cut(Fitted fitted, const std::string& answer_prefix);

// Text of the first of `names` in the data folder; throws Error::refused naming them.
std::string read_first(const std::filesystem::path& data, const std::vector<std::string>& names);

// settings: the task's entry of tasks.yaml.
std::vector<RulerSample> make_niah(const Json& settings, const RulerOptions& options,
                                   const TokenCounter& count);
std::vector<RulerSample> make_tracking(const Json& settings, const RulerOptions& options,
                                       const TokenCounter& count);
std::vector<RulerSample> make_common_words(const Json& settings, const RulerOptions& options,
                                           const TokenCounter& count);
std::vector<RulerSample> make_frequent_words(const Json& settings, const RulerOptions& options,
                                             const TokenCounter& count);
std::vector<RulerSample> make_qa(const Json& settings, const RulerOptions& options,
                                 const TokenCounter& count);

}  // namespace narrow::evaluate::ruler
