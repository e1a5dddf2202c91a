// The language of a text as langdetect 1.0.9 finds it (Nakatani 2010): naive Bayes over n-grams of
// one to three characters, in seven trials that draw n-grams at random. The harness leaves its
// generator unseeded, so its answer on short or mixed text varies from run to run; here it is
// seeded with 0 and an answer never varies. The profiles of 55 languages are read once, from
// tasks/checkers/language_profiles.txt.gz (scripts/make_checker_data.py), lines of tab-separated
// fields:
//   language CODE UNIGRAMS BIGRAMS TRIGRAMS (how many were counted) | same CHARACTERS (one class of
//   CJK characters, its representative first) | gram TEXT LANGUAGE:COUNT LANGUAGE:COUNT …
// May be called from several threads. Throws Error::refused when that file is missing or broken.
#pragma once

#include <optional>
#include <string>

namespace narrow::evaluate {

// A code such as "en" or "zh-cn", "unknown" when none is likely, nothing when the text has no
// n-gram that a profile knows.  REQUIRES: valid UTF-8.
std::optional<std::string> detect_language(const std::string& text);

}  // namespace narrow::evaluate
