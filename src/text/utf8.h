// UTF-8: checking, repairing, normalizing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace narrow::text {

// Length in bytes of the character at the front of `text`, or 0 when its first byte cannot start
// one or it breaks off (truncated tells the two apart when it is not null: the bytes so far are a
// valid beginning that merely ends too early).
size_t character_length(std::string_view text, bool* truncated = nullptr);

// Invalid bytes become U+FFFD, one for each maximal part of a broken character, as Python's and
// Rust's lossy decoders do.
std::string repair(std::string_view text);

bool is_valid(std::string_view text);

// U+FFFD for what is no character.
std::string encode_utf8(uint32_t code_point);

// Canonical composition (NFC). REQUIRES: valid UTF-8.
std::string to_nfc(const std::string& text);

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace narrow::text
