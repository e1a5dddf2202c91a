#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "text/bert_text.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"
#include "text/wordpiece.h"

namespace narrow::text {
namespace {

constexpr int64_t kMaxId = 4'000'000;
constexpr const char* kWhere = "tokenizer.json";

// GPT-2's alphabet: every byte as a printable character; this is the way back.
std::map<std::string, uint8_t> byte_alphabet() {
  std::map<std::string, uint8_t> bytes;
  int next = 0;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const int code = printable ? b : 256 + next++;
    std::string character;
    if (code < 0x80) {
      character += static_cast<char>(code);
    } else {
      character += static_cast<char>(0xC0 | code >> 6);
      character += static_cast<char>(0x80 | (code & 0x3F));
    }
    bytes[character] = static_cast<uint8_t>(b);
  }
  return bytes;
}

// Characters of the alphabet back to bytes; the text itself when one is outside of it.
std::string from_byte_alphabet(const std::string& token,
                               const std::map<std::string, uint8_t>& alphabet) {
  std::string bytes;
  std::string_view rest = token;
  while (!rest.empty()) {
    const size_t length = std::max<size_t>(1, character_length(rest));
    const auto found = alphabet.find(std::string(rest.substr(0, length)));
    if (found == alphabet.end()) return token;
    bytes += static_cast<char>(found->second);
    rest.remove_prefix(length);
  }
  return bytes;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "<0x0A>" → 10; -1 for anything else.
int byte_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;
  bool lstrip = false, rstrip = false;  // blanks before, behind it belong to it
};

// Bytes of the blanks that `text` begins with.
size_t leading_blanks(std::string_view text) {
  size_t bytes = 0;
  while (bytes < text.size()) {
    const size_t length = blank_length(text.substr(bytes));
    if (length == 0) break;
    bytes += length;
  }
  return bytes;
}

// Where text[begin, end) ends without the blanks at its end.
size_t end_of_text(std::string_view text, size_t begin, size_t end) {
  while (end > begin) {
    size_t start = end - 1;
    while (start > begin && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (blank_length(text.substr(start, end - start)) != end - start) break;
    end = start;
  }
  return end;
}

bool decoder_has(const SortedJson& decoder, const std::string& type) {
  if (!decoder.is_object()) return false;
  if (decoder.value("type", "") == type) return true;
  for (const SortedJson& step : decoder.value("decoders", SortedJson::array()))
    if (decoder_has(step, type)) return true;
  return false;
}

}  // namespace

struct Tokenizer::State {
  State(const SortedJson& document, const SortedJson& config)
      : normalizer(Json(document.value("normalizer", SortedJson())),
                   std::string(kWhere) + ", normalizer"),
        pre_tokenizer(Json(document.value("pre_tokenizer", SortedJson())),
                      std::string(kWhere) + ", pre_tokenizer") {
    read_model(json_get<SortedJson>(document, "model", kWhere));
    read_added(document.value("added_tokens", SortedJson::array()));
    read_post_processor(document.value("post_processor", SortedJson()));
    read_decoder(document.value("decoder", SortedJson()));
    bos = special_of(config, "bos_token");
    eos = special_of(config, "eos_token");
  }

  void set_token(int64_t id, const std::string& token) {
    if (id < 0 || id > kMaxId)
      throw Error::refused("token id " + std::to_string(id) + " is out of range", kWhere);
    if (id >= static_cast<int64_t>(tokens.size())) tokens.resize(static_cast<size_t>(id) + 1);
    tokens[static_cast<size_t>(id)] = token;
  }

  void read_model(const SortedJson& model) {
    const std::string where = std::string(kWhere) + ", model";
    const auto type = json_get<std::string>(model, "type", where, "BPE");
    if (type == "WordPiece") return read_wordpiece(model, where);
    if (type != "BPE") throw Error::refused("only BPE and WordPiece models are supported", where);
    for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!json_get<std::string>(model, field, where, "").empty())
        throw Error::refused(std::string("\"") + field + "\" is not supported", where);
    }
    bpe.byte_level = pre_tokenizer.byte_level();
    byte_fallback = json_get<bool>(model, "byte_fallback", where, false);
    bpe.ignore_merges = json_get<bool>(model, "ignore_merges", where, false);
    bpe.fuse_unknown = json_get<bool>(model, "fuse_unk", where, false);
    bpe.byte_ids.fill(-1);
    const auto alphabet = byte_alphabet();
    const SortedJson vocabulary = json_get<SortedJson>(model, "vocab", where);
    if (!vocabulary.is_object()) throw Error::refused("\"vocab\" must be an object", where);
    std::unordered_map<std::string, int32_t> by_name;
    for (const auto& [name, id] : vocabulary.items()) {
      if (!id.is_number_integer()) throw Error::refused("an id is no integer", where);
      const auto number = id.get<int64_t>();
      std::string token = bpe.byte_level ? from_byte_alphabet(name, alphabet) : name;
      set_token(number, token);
      const auto value = static_cast<int32_t>(number);
      by_name.emplace(name, value);
      if (bpe.byte_level && token.size() == 1) bpe.byte_ids[static_cast<uint8_t>(token[0])] = value;
      if (const int byte = byte_token(name); byte_fallback && byte >= 0) {
        bpe.byte_ids[static_cast<size_t>(byte)] = value;
        byte_tokens.emplace(value, static_cast<char>(byte));
      }
      bpe.ids.emplace(std::move(token), value);
    }
    const auto unknown = json_get<std::string>(model, "unk_token", where, "");
    if (const auto found = by_name.find(unknown); found != by_name.end())
      bpe.unknown_id = found->second;
    read_merges(json_get<SortedJson>(model, "merges", where), by_name, where);
  }

  void read_wordpiece(const SortedJson& model, const std::string& where) {
    WordPiece pieces;
    pieces.continuing_prefix =
        json_get<std::string>(model, "continuing_subword_prefix", where, "##");
    constexpr int64_t kMaxCharacters = 256;  // a word takes time quadratic in this
    pieces.max_characters = json_get<int64_t>(model, "max_input_chars_per_word", where, 100);
    if (pieces.max_characters < 1 || pieces.max_characters > kMaxCharacters)
      throw Error::refused("\"max_input_chars_per_word\" is out of range", where,
                           "accepted: 1 to 256");
    const SortedJson vocabulary = json_get<SortedJson>(model, "vocab", where);
    if (!vocabulary.is_object()) throw Error::refused("\"vocab\" must be an object", where);
    for (const auto& [name, id] : vocabulary.items()) {
      if (!id.is_number_integer()) throw Error::refused("an id is no integer", where);
      set_token(id.get<int64_t>(), name);
      pieces.ids.emplace(name, id.get<int32_t>());
    }
    const auto unknown = json_get<std::string>(model, "unk_token", where, "[UNK]");
    const auto found = pieces.ids.find(unknown);
    if (found == pieces.ids.end())
      throw Error::refused("\"unk_token\" is not in the vocabulary", where);
    pieces.unknown_id = found->second;
    wordpiece = std::move(pieces);
  }

  void read_merges(const SortedJson& merges,
                   const std::unordered_map<std::string, int32_t>& by_name,
                   const std::string& where) {
    const auto id = [&](const std::string& token) {
      const auto found = by_name.find(token);
      if (found == by_name.end())
        throw Error::refused("a merge names \"" + token + "\", which is no token", where);
      return found->second;
    };
    int32_t rank = 0;
    for (const SortedJson& merge : merges) {
      std::string left, right;
      if (merge.is_string()) {
        const auto text = merge.get<std::string>();
        const size_t space = text.find(' ');
        if (space == std::string::npos) throw Error::refused("a merge is no pair", where);
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        throw Error::refused("a merge is no pair", where);
      }
      bpe.merges.emplace(static_cast<uint64_t>(static_cast<uint32_t>(id(left))) << 32 |
                             static_cast<uint32_t>(id(right)),
                         Bpe::Merge{rank++, id(left + right)});
    }
  }

  void read_added(const SortedJson& list) {
    const std::string where = std::string(kWhere) + ", added_tokens";
    for (const SortedJson& entry : list) {
      AddedToken token;
      token.content = json_get<std::string>(entry, "content", where);
      const auto id = json_get<int64_t>(entry, "id", where);
      token.special = json_get<bool>(entry, "special", where, false);
      token.lstrip = json_get<bool>(entry, "lstrip", where, false);
      token.rstrip = json_get<bool>(entry, "rstrip", where, false);
      if (json_get<bool>(entry, "single_word", where, false))
        throw Error::refused("\"single_word\" of \"" + token.content + "\" is not supported",
                             where);
      if (token.content.empty()) throw Error::refused("an empty token", where);
      set_token(id, token.content);
      token.id = static_cast<int32_t>(id);
      added_ids[token.content] = token.id;
      if (token.special) special.insert({token.id, true});
      added[static_cast<uint8_t>(token.content[0])].push_back(std::move(token));
    }
    // The longest match wins where several begin at one place.
    for (auto& bucket : added) {
      std::stable_sort(bucket.begin(), bucket.end(), [](const auto& a, const auto& b) {
        return a.content.size() > b.content.size();
      });
    }
  }

  void read_post_processor(const SortedJson& processor) {
    const std::string where = std::string(kWhere) + ", post_processor";
    if (processor.is_null()) return;
    const auto type = json_get<std::string>(processor, "type", where);
    if (type == "Sequence") {
      for (const SortedJson& step : json_get<SortedJson>(processor, "processors", where))
        read_post_processor(step);
    } else if (type == "TemplateProcessing") {
      bool after = false;
      for (const SortedJson& piece : json_get<SortedJson>(processor, "single", where)) {
        if (piece.contains("Sequence")) {
          after = true;
          continue;
        }
        const auto name =
            json_get<std::string>(json_get<SortedJson>(piece, "SpecialToken", where), "id", where);
        const auto id = id_of(name);
        if (!id) throw Error::refused("\"" + name + "\" is no token", where);
        (after ? suffix : prefix).push_back(*id);
      }
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      const auto id = [&](const char* field) {
        const auto pair = json_get<SortedJson>(processor, field, where);
        const auto name = pair.is_array() && pair.size() == 2 && pair[0].is_string()
                              ? id_of(pair[0].get<std::string>())
                              : std::nullopt;
        if (!name)
          throw Error::refused(std::string("\"") + field + "\" is no pair of token and id", where);
        return *name;
      };
      prefix.push_back(id("cls"));
      suffix.push_back(id("sep"));
    } else if (type != "ByteLevel") {
      throw Error::refused("post-processor \"" + type + "\" is not supported", where);
    }
  }

  void read_decoder(const SortedJson& decoder) {
    if (wordpiece) {
      // Words are joined by blanks; blanks that the text did not have are not taken out again.
      strip_space = true;
      for (const auto& [name, id] : wordpiece->ids) {
        const bool continues = name.starts_with(wordpiece->continuing_prefix);
        tokens[static_cast<size_t>(id)] =
            continues ? name.substr(wordpiece->continuing_prefix.size()) : " " + name;
      }
      return;
    }
    strip_space = decoder_has(decoder, "Strip");
    if (!decoder_has(decoder, "Replace") || bpe.byte_level) return;
    // SentencePiece's "▁" stands for a space.
    for (std::string& token : tokens) {
      constexpr std::string_view kMark = "\xE2\x96\x81";
      for (size_t at; (at = token.find(kMark)) != std::string::npos;)
        token.replace(at, kMark.size(), " ");
    }
  }

  std::optional<int32_t> id_of(std::string_view token) const {
    if (const auto found = added_ids.find(std::string(token)); found != added_ids.end())
      return found->second;
    const auto& ids = wordpiece ? wordpiece->ids : bpe.ids;
    if (const auto found = ids.find(std::string(token)); found != ids.end()) return found->second;
    return std::nullopt;
  }

  std::optional<int32_t> special_of(const SortedJson& config, const char* field) const {
    if (!config.is_object() || !config.contains(field)) return std::nullopt;
    const SortedJson& token = config[field];
    if (token.is_string()) return id_of(token.get<std::string>());
    if (token.is_object() && token.contains("content") && token["content"].is_string())
      return id_of(token["content"].get<std::string>());
    return std::nullopt;
  }

  const AddedToken* added_at(std::string_view text) const {
    for (const AddedToken& token : added[static_cast<uint8_t>(text[0])])
      if (text.starts_with(token.content)) return &token;
    return nullptr;
  }

  void encode_plain(std::string_view text, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    for (const std::string& word : pre_tokenizer.split(normalizer.apply(std::string(text)))) {
      if (wordpiece) {
        wordpiece->encode(word, ids);
      } else {
        bpe.encode(word, ids);
      }
    }
  }

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::optional<WordPiece> wordpiece;  // instead of bpe
  bool byte_fallback = false;
  bool strip_space = false;  // decoding drops one leading space
  std::vector<std::string> tokens;
  std::unordered_map<int32_t, char> byte_tokens;
  std::array<std::vector<AddedToken>, 256> added;  // by first byte
  std::unordered_map<std::string, int32_t> added_ids;
  std::unordered_map<int32_t, bool> special;
  std::vector<int32_t> prefix, suffix;
  std::optional<int32_t> bos, eos;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const std::string& tokenizer_json,
                               const std::string& tokenizer_config_json) {
  if (tokenizer_json.empty())
    throw Error::refused("the model has none, or an empty one", kWhere,
                         "put the file that its publisher has beside the weights");
  const SortedJson config = tokenizer_config_json.empty()
                                ? SortedJson::object()
                                : parse_sorted_json(tokenizer_config_json, "tokenizer_config.json");
  try {
    return Tokenizer(std::make_unique<State>(parse_sorted_json(tokenizer_json, kWhere), config));
  } catch (const nlohmann::json::exception& error) {
    // A field of another type than the format has.
    throw Error::refused(error.what(), kWhere, "the file is damaged");
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view raw, const EncodeOptions& options) const {
  const State& s = *state_;
  const std::string text = repair(raw);
  std::vector<int32_t> ids;
  if (options.add_special) ids = s.prefix;
  if (options.parse_special) {
    for (const Piece& piece : split_special(text)) {
      if (piece.id) {
        ids.push_back(*piece.id);
      } else {
        s.encode_plain(piece.text, ids);
      }
    }
  } else {
    s.encode_plain(text, ids);
  }
  if (options.add_special) ids.insert(ids.end(), s.suffix.begin(), s.suffix.end());
  return ids;
}

std::vector<Tokenizer::Piece> Tokenizer::split_special(std::string_view text) const {
  std::vector<Piece> pieces;
  size_t begin = 0;
  const auto plain = [&](size_t end) {
    if (end > begin) pieces.push_back({std::string(text.substr(begin, end - begin)), std::nullopt});
  };
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = state_->added_at(text.substr(at));
    if (!token) {
      ++at;
      continue;
    }
    plain(token->lstrip ? end_of_text(text, begin, at) : at);
    pieces.push_back({token->content, token->id});
    at += token->content.size();
    if (token->rstrip) at += leading_blanks(text.substr(at));
    begin = at;
  }
  plain(text.size());
  return pieces;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const State& s = *state_;
  std::string text, bytes;
  // A run of byte tokens is text when it is valid as a whole; otherwise every byte is U+FFFD.
  const auto end_of_bytes = [&] {
    if (is_valid(bytes)) {
      text += bytes;
    } else {
      for (size_t i = 0; i < bytes.size(); ++i) text += kReplacement;
    }
    bytes.clear();
  };
  for (int32_t id : ids) {
    if (skip_special && is_special(id)) continue;
    if (const auto found = s.byte_tokens.find(id); found != s.byte_tokens.end()) {
      bytes += found->second;
      continue;
    }
    end_of_bytes();
    text += token_bytes(id);
  }
  end_of_bytes();
  if (s.strip_space && text.starts_with(' ')) text.erase(0, 1);
  return repair(text);
}

std::string Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || id >= vocabulary()) return {};
  if (const auto found = state_->byte_tokens.find(id); found != state_->byte_tokens.end())
    return std::string(1, found->second);
  return state_->tokens[static_cast<size_t>(id)];
}

int64_t Tokenizer::vocabulary() const { return static_cast<int64_t>(state_->tokens.size()); }
std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  return state_->id_of(token);
}
bool Tokenizer::is_special(int32_t id) const { return state_->special.contains(id); }
std::optional<int32_t> Tokenizer::bos_id() const { return state_->bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return state_->eos; }

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  pending_ += tokenizer_->token_bytes(id);
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    bool truncated;
    const size_t length = character_length(rest, &truncated);
    if (length == 0 && truncated) break;
    if (length == 0) {
      text += kReplacement;
      rest.remove_prefix(1);
    } else {
      text += rest.substr(0, length);
      rest.remove_prefix(length);
    }
  }
  pending_ = std::string(rest);
  return text;
}

std::string StreamDecoder::finish() { return repair(std::exchange(pending_, {})); }

}  // namespace narrow::text
