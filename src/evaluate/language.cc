#include "evaluate/language.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "evaluate/filter.h"
#include "evaluate/python_random.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

// langdetect's own parameters (detector.py).
constexpr double kAlpha = 0.5, kAlphaWidth = 0.05, kBaseFrequency = 10000;
constexpr double kLikely = 0.1, kConverged = 0.99999;
constexpr int kTrials = 7, kStepLimit = 1000;
constexpr size_t kCharacterLimit = 10000;

constexpr int64_t kProfileLimitBytes = 64 << 20;

struct Share {
  size_t language;
  double probability;
};

struct Profiles {
  std::vector<std::string> languages;
  std::unordered_map<uint32_t, uint32_t> same;  // CJK character → representative of its class
  std::unordered_map<std::string, std::vector<Share>> grams;
};

class ProfileReader {
 public:
  Profiles read() {
    const auto lines = python::split(read_text_maybe_gz(path_, kProfileLimitBytes), "\n");
    for (const std::string& line : lines) {
      ++line_;
      if (line.empty()) continue;
      const auto fields = python::split(line, "\t");
      if (fields[0] == "language" && fields.size() == 5) {
        profiles_.languages.push_back(fields[1]);
        totals_.push_back({number(fields[2]), number(fields[3]), number(fields[4])});
      } else if (fields[0] == "same" && fields.size() == 2) {
        const auto codes = python::code_points(fields[1]);
        for (const uint32_t code : codes) profiles_.same[code] = codes[0];
      } else if (fields[0] == "gram" && fields.size() == 3) {
        read_gram(fields[1], fields[2]);
      } else {
        refuse();
      }
    }
    return std::move(profiles_);
  }

 private:
  [[noreturn]] void refuse() const {
    throw Error::refused("not a language profile",
                         path_.string() + ", line " + std::to_string(line_),
                         "make it again with scripts/make_checker_data.py");
  }

  double number(std::string_view text) const {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value <= 0) refuse();
    return static_cast<double>(value);
  }

  void read_gram(const std::string& gram, const std::string& counts) {
    const size_t length = python::code_points(gram).size();
    if (length < 1 || length > 3) refuse();
    auto& shares = profiles_.grams[gram];
    for (const std::string& count : python::split(counts)) {
      const size_t colon = count.find(':');
      size_t language = 0;
      const auto [end, error] =
          std::from_chars(count.data(), count.data() + std::min(colon, count.size()), language);
      if (colon == std::string::npos || error != std::errc() || end != count.data() + colon ||
          language >= totals_.size())
        refuse();
      shares.push_back({language, number(std::string_view(count).substr(colon + 1)) /
                                      totals_[language][length - 1]});
    }
  }

  std::filesystem::path path_ = data_folder("tasks") / "checkers" / "language_profiles.txt.gz";
  size_t line_ = 0;
  std::vector<std::array<double, 3>> totals_;
  Profiles profiles_;
};

const Profiles& profiles() {
  static const Profiles loaded = ProfileReader().read();
  return loaded;
}

constexpr bool within(uint32_t code, uint32_t first, uint32_t last) {
  return first <= code && code <= last;
}

// What counts as the same letter (langdetect's NGram.normalize).
uint32_t normalize(uint32_t c) {
  if (c < 0x80) return within(c, 'A', 'Z') || within(c, 'a', 'z') ? c : ' ';
  if (c == 0xA0 || c == 0xAB || c == 0xB0 || c == 0xBB) return ' ';
  if (c == 0x219) return 0x15F;  // Romanian: comma below → cedilla
  if (c == 0x21B) return 0x163;
  if (within(c, 0x2000, 0x206F)) return ' ';
  if (c == 0x6CC) return 0x64A;  // Farsi yeh → Arabic yeh
  if (within(c, 0x1EA0, 0x1EFF)) return 0x1EC3;
  if (within(c, 0x3040, 0x309F)) return 0x3042;
  if (within(c, 0x30A0, 0x30FF)) return 0x30A2;
  if (within(c, 0x3100, 0x312F) || within(c, 0x31A0, 0x31BF)) return 0x3105;
  if (within(c, 0xAC00, 0xD7AF)) return 0xAC00;
  if (within(c, 0x4E00, 0x9FFF)) {
    const auto same = profiles().same.find(c);
    return same == profiles().same.end() ? c : same->second;
  }
  return c;
}

// Vietnamese letters with a tone mark of their own become one character.
std::string compose_vietnamese(const std::string& text) {
  static const Pattern marked(
      "[AEIOUYaeiouy\u00c2\u00ca\u00d4\u00e2\u00ea\u00f4\u0102\u0103\u01a0\u01a1\u01af\u01b0]"
      "[\u0300\u0301\u0303\u0309\u0323]");
  std::string result;
  size_t last = 0;
  for (const Pattern::Match& match : marked.matches(text)) {
    result.append(text, last, match.begin - last);
    result += text::to_nfc(text.substr(match.begin, match.end - match.begin));
    last = match.end;
  }
  return result.append(text, last);
}

std::vector<uint32_t> cleaned(const std::string& text) {
  static const Pattern url(R"(https?://[-_.?&~;+=/#0-9A-Za-z]{1,2076})");
  static const Pattern mail(R"([-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]{1,255}[-_.0-9A-Za-z]{1,255})");
  const auto codes =
      python::code_points(compose_vietnamese(mail.replace_all(url.replace_all(text, " "), " ")));
  std::vector<uint32_t> kept;
  for (size_t i = 0; i < std::min(codes.size(), kCharacterLimit); ++i)
    if (codes[i] != ' ' || i == 0 || codes[i - 1] != ' ') kept.push_back(codes[i]);
  // Latin words in a text of another script are left out.
  const auto latin = [](uint32_t c) { return within(c, 'A', 'z'); };
  const auto other = [](uint32_t c) { return c >= 0x300 && !within(c, 0x1E00, 0x1EFF); };
  if (std::count_if(kept.begin(), kept.end(), latin) * 2 <
      std::count_if(kept.begin(), kept.end(), other))
    std::erase_if(kept, latin);
  return kept;
}

// The n-grams that a profile knows, in the order of the text; words of capitals give none.
std::vector<const std::vector<Share>*> known_grams(const std::vector<uint32_t>& codes) {
  std::vector<const std::vector<Share>*> known;
  std::vector<uint32_t> window{' '};
  bool capitals = false;
  for (const uint32_t raw : codes) {
    const uint32_t code = normalize(raw), last = window.back();
    if (last == ' ') {
      window = {' '};
      capitals = false;
      if (code != ' ') window.push_back(code);
    } else {
      if (window.size() >= 3) window.erase(window.begin());
      window.push_back(code);
    }
    if (last != ' ' || code != ' ')
      capitals = python::is_upper(code) && (capitals || python::is_upper(last));
    if (capitals) continue;
    std::string gram;
    for (size_t n = 1; n <= window.size(); ++n) {
      gram.insert(0, text::encode_utf8(window[window.size() - n]));
      if (gram == " ") continue;
      const auto found = profiles().grams.find(gram);
      if (found != profiles().grams.end()) known.push_back(&found->second);
    }
  }
  return known;
}

// random.Random of CPython: gauss() gives two values for two draws.
class Gauss {
 public:
  double draw(PythonRandom& random) {
    if (next_) return *std::exchange(next_, std::nullopt);
    const double angle = random.random() * 2 * std::numbers::pi;
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.random()));
    next_ = std::sin(angle) * radius;
    return std::cos(angle) * radius;
  }

 private:
  std::optional<double> next_;
};

double normalize_sum(std::vector<double>& probabilities) {
  double sum = 0, largest = 0;
  for (const double p : probabilities) sum += p;
  for (double& p : probabilities) {
    p /= sum;
    largest = std::max(largest, p);
  }
  return largest;
}

}  // namespace

std::optional<std::string> detect_language(const std::string& text) {
  const auto grams = known_grams(cleaned(text));
  if (grams.empty()) return std::nullopt;
  const size_t languages = profiles().languages.size();
  std::vector<double> mean(languages, 0.0);
  PythonRandom random(0);
  Gauss gauss;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> likely(languages, 1.0 / static_cast<double>(languages));
    const double weight = (kAlpha + gauss.draw(random) * kAlphaWidth) / kBaseFrequency;
    std::vector<double> factor(languages);
    for (int step = 0;; ++step) {
      const auto& shares =
          *grams[static_cast<size_t>(random.below(static_cast<int64_t>(grams.size())))];
      std::fill(factor.begin(), factor.end(), weight);
      for (const Share& share : shares) factor[share.language] += share.probability;
      for (size_t i = 0; i < languages; ++i) likely[i] *= factor[i];
      if (step % 5 == 0 && (normalize_sum(likely) > kConverged || step >= kStepLimit)) break;
    }
    for (size_t i = 0; i < languages; ++i) mean[i] += likely[i] / kTrials;
  }
  const auto best = std::max_element(mean.begin(), mean.end());
  if (!(*best > kLikely)) return "unknown";
  return profiles().languages[static_cast<size_t>(best - mean.begin())];
}

}  // namespace narrow::evaluate
