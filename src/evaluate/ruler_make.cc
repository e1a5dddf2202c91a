#include "evaluate/ruler_make.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"

namespace narrow::evaluate::ruler {

namespace fs = std::filesystem;

std::string Draws::letters(char first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += static_cast<char>(first + static_cast<int>(python.random() * 26));
  return text;
}

std::string Draws::number() { return std::to_string(1'000'000 + python.below(9'000'000)); }

// uuid.UUID(int=random.getrandbits(128), version=4): the words come lowest first.
std::string Draws::uuid() {
  uint32_t words[4];
  for (uint32_t& word : words) word = python.bits(32);
  words[1] = (words[1] & 0x3fffffffu) | 0x80000000u;
  words[2] = (words[2] & 0xffff0fffu) | 0x00004000u;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", words[3], words[2] >> 16,
                     words[2] & 0xffff, words[1] >> 16, words[1] & 0xffff, words[0]);
}

std::vector<std::string> lines_of(const std::string& file) {
  std::istringstream stream(read_text(data_folder("tasks/ruler") / file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

namespace {

std::vector<std::string> sorted_set(std::vector<std::string> list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

}  // namespace

std::vector<std::string> all_words() {
  std::vector<std::string> words;
  for (const char* file : {"nouns.txt", "adjectives.txt", "verbs.txt"})
    for (std::string& word : lines_of(file)) words.push_back(std::move(word));
  return sorted_set(std::move(words));
}

NounPhrases::NounPhrases()
    : adjectives_(lines_of("adjectives.txt")), nouns_(sorted_set(lines_of("nouns.txt"))) {
  // As the pairs sort: "wide-" stands before "wide-eyed-", but "wide " would before "wide-".
  for (std::string& adjective : adjectives_) adjective += '-';
  adjectives_ = sorted_set(std::move(adjectives_));
  added_.resize(adjectives_.size());
  for (size_t i = 0; i < adjectives_.size(); ++i)
    if (!added_[i]) add(i);
}

bool NounPhrases::begins_with(size_t longer, size_t shorter) const {
  return adjectives_[longer].starts_with(adjectives_[shorter]);
}

void NounPhrases::add(size_t adjective) {
  added_[adjective] = true;
  size_t noun = 0;
  const auto emit = [&](size_t end) {
    if (end > noun) blocks_.push_back({size_, adjective, noun});
    size_ += static_cast<int64_t>(end - noun);
    noun = end;
  };
  for (size_t next = adjective + 1; next < adjectives_.size() && begins_with(next, adjective);
       ++next) {
    if (added_[next]) continue;
    const std::string rest = adjectives_[next].substr(adjectives_[adjective].size());
    const auto at = std::lower_bound(nouns_.begin(), nouns_.end(), rest);
    if (at != nouns_.end() && at->starts_with(rest))
      throw Error::refused("adjectives and nouns give a pair twice", "tasks/ruler", rest);
    emit(static_cast<size_t>(at - nouns_.begin()));
    add(next);
  }
  emit(nouns_.size());
}

std::string NounPhrases::at(int64_t index) const {
  const auto block = std::upper_bound(blocks_.begin(), blocks_.end(), index,
                                      [](int64_t i, const Block& of) { return i < of.first; }) -
                     1;
  return adjectives_[block->adjective] +
         nouns_[block->noun + static_cast<size_t>(index - block->first)];
}

std::string format(const std::string& text, const std::map<std::string, std::string>& values) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t end = text[i] == '{' ? text.find('}', i) : std::string::npos;
    const auto value =
        end == std::string::npos ? values.end() : values.find(text.substr(i + 1, end - i - 1));
    if (value == values.end()) {
      result += text[i];
    } else {
      result += value->second;
      i = end;
    }
  }
  return result;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

int64_t find_size(int64_t step, int64_t bound, const std::function<bool(int64_t)>& fits) {
  int64_t low = step, high = std::max(bound, step * 2), best = step;
  while (low <= high) {
    const int64_t middle = (low + high) / 2;
    if (fits(middle)) {
      best = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return best;
}

Fitted draw_fitting(int64_t size, int64_t step, int64_t limit, int64_t extra, const Make& make,
                    const TokenCounter& count, const std::string& task) {
  // At the smallest size draws still differ in length; after so many none will fit.
  constexpr int kDrawsAtSmallest = 100;
  for (int at_smallest = 0; at_smallest < kDrawsAtSmallest;) {
    if (auto made = make(size)) {
      const int64_t length = count(made->text) + extra;
      if (length <= limit) return {std::move(*made), length};
    }
    if (size > step)
      size -= step;
    else
      ++at_smallest;
  }
  throw Error::refused(fmt::format("no sample fits into {} tokens", limit), task,
                       "RULER's lengths begin at 4096");
}

RulerSample cut(Fitted fitted, const std::string& answer_prefix) {
  const size_t at = fitted.made.text.rfind(answer_prefix.substr(0, 10));
  return {fitted.made.text.substr(0, at), fitted.made.text.substr(at),
          std::move(fitted.made.outputs), fitted.length};
}

std::string read_first(const fs::path& data, const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) {
    if (fs::is_regular_file(data / name)) return read_text(data / name);
    list += (list.empty() ? "" : ", ") + name;
  }
  throw Error::refused("none of these files is there: " + list, data.string(),
                       "see docs/evaluation.md for where RULER's data come from");
}

}  // namespace narrow::evaluate::ruler
