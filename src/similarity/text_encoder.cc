#include "similarity/text_encoder.h"

#include "base/error.h"

namespace narrow::similarity {

TextEncoder::TextEncoder(const std::filesystem::path& directory, const std::string& backend,
                         int threads)
    : checkpoint_(directory),
      tokenizer_(
          text::Tokenizer::from_json(checkpoint_.tokenizer(), checkpoint_.tokenizer_config())),
      model_(checkpoint_, ops::make_backend(backend == "reference" ? "reference" : "cpu", threads),
             threads) {
  const auto frame = tokenizer_.encode("", {.add_special = true});
  if (frame.size() != 2)
    throw Error::refused("the tokenizer does not put one token before and one behind a text",
                         (directory / "tokenizer.json").string());
  begin_ = frame[0];
  end_ = frame[1];
}

std::vector<int32_t> TextEncoder::encode(std::string_view text, int64_t longest) const {
  auto ids = tokenizer_.encode(text, {.add_special = true, .parse_special = true});
  if (static_cast<int64_t>(ids.size()) > longest) {
    ids.resize(static_cast<size_t>(longest));
    ids.back() = end_;
  }
  return ids;
}

}  // namespace narrow::similarity
