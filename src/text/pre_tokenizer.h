// What happens to text before byte-pair encoding: normalization and cutting into words, as the
// "normalizer" and "pre_tokenizer" of a tokenizer.json say. Immutable; threads may share it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace narrow::text {

class Normalizer {
 public:
  // `config`: the "normalizer" object or null. Throws Error::refused for a type not supported.
  Normalizer(const Json& config, const std::string& where);
  std::string apply(std::string text) const;

 private:
  void add(const Json& config, const std::string& where);
  std::vector<std::function<std::string(std::string)>> steps_;
};

class PreTokenizer {
 public:
  PreTokenizer(const Json& config, const std::string& where);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Cuts `text` (valid UTF-8) into words, in order. Throws Error::refused when a pattern exceeds
  // its match limits on this text.
  std::vector<std::string> split(const std::string& text) const;
  bool byte_level() const { return byte_level_; }

 private:
  struct Step;
  void add(const Json& config, const std::string& where);
  std::vector<std::unique_ptr<Step>> steps_;
  bool byte_level_ = false;
};

}  // namespace narrow::text
