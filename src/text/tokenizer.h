// Tokenizers as Hugging Face's do it, from a tokenizer.json: byte-pair encoding, byte-level (GPT-2
// style; SmolLM2, Qwen2, Llama 3, RoBERTa) and SentencePiece-style with byte fallback, and BERT's
// WordPiece. Ids are equal to theirs for every input, invalid UTF-8 included. Linear time in the
// text. Immutable after construction; threads may share it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace narrow::text {

class Tokenizer {
 public:
  // Texts of tokenizer.json, empty where there is none, and tokenizer_config.json (may be empty).
  // Throws Error::refused for none and for what is malformed or not supported, naming the field.
  static Tokenizer from_json(const std::string& tokenizer_json,
                             const std::string& tokenizer_config_json);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  struct EncodeOptions {
    bool add_special = false;    // what the post-processor adds: BOS and the like
    bool parse_special = false;  // "<|im_end|>" in the text becomes the control token
  };
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;

  // `text` cut at the added tokens in it: a piece is either a token or plain text.
  struct Piece {
    std::string text;
    std::optional<int32_t> id;
  };
  std::vector<Piece> split_special(std::string_view text) const;

  // Byte-exact inverse for byte-level vocabularies; incomplete UTF-8 becomes U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;
  // The raw bytes of one token, which may be a part of a character.
  std::string token_bytes(int32_t id) const;

  int64_t vocabulary() const;  // largest id + 1
  std::optional<int32_t> id_of(std::string_view token) const;
  bool is_special(int32_t id) const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Turns a stream of tokens into text, holding back bytes until they are whole characters.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string push(int32_t id);  // text that became complete, perhaps none
  std::string finish();          // what is left, U+FFFD for a broken tail

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace narrow::text
