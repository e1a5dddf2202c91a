// Sentences and words as NLTK 3.10 splits English text: punkt (Kiss and Strunk 2006) with the
// parameters of punkt_tab/english, and the tokenizer behind nltk.word_tokenize (after the Penn
// Treebank's). The parameters are read once, from tasks/checkers/punkt_english.txt.gz
// (scripts/make_checker_data.py), lines of tab-separated fields:
//   abbreviation WORD | starter WORD | collocation WORD WORD | context WORD BITS
// Functions may be called from several threads. They throw Error::refused when that file is not
// there or is broken, Error::failed when a text exceeds the limits of a regular expression.
#pragma once

#include <string>
#include <vector>

namespace narrow::evaluate {

// nltk.sent_tokenize(text).  REQUIRES: valid UTF-8, here and below.
std::vector<std::string> sentences(const std::string& text);

// nltk.word_tokenize(text); quotation marks come out as `` and ''.
std::vector<std::string> word_tokens(const std::string& text);

}  // namespace narrow::evaluate
