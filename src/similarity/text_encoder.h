// An encoder with its tokenizer: what STS and BERTScore share, loaded once. Not to be shared
// between threads.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/encoder_checkpoint.h"
#include "model/encoder.h"
#include "text/tokenizer.h"

namespace narrow::similarity {

class TextEncoder {
 public:
  // backend: of the model compared; "reference" is kept, for every other one the encoder runs on
  // "cpu". Throws Error::refused for a directory that is no encoder, or whose tokenizer has no
  // token before and one behind a text.
  TextEncoder(const std::filesystem::path& directory, const std::string& backend, int threads);

  const checkpoint::EncoderCheckpoint& checkpoint() const { return checkpoint_; }
  model::Encoder& model() { return model_; }

  // The ids of `text` between the tokenizer's begin and end tokens, cut to `longest` with these, as
  // Hugging Face tokenizers truncate. A special token written out in the text becomes that token,
  // as it does there.
  std::vector<int32_t> encode(std::string_view text, int64_t longest) const;
  bool is_frame(int32_t id) const { return id == begin_ || id == end_; }

 private:
  checkpoint::EncoderCheckpoint checkpoint_;
  text::Tokenizer tokenizer_;
  model::Encoder model_;
  int32_t begin_ = 0, end_ = 0;
};

}  // namespace narrow::similarity
