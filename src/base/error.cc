#include "base/error.h"

namespace narrow {
namespace {

std::string sentence(const std::string& what, const std::string& where, const std::string& advice) {
  std::string text = where.empty() ? what : where + ": " + what;
  if (!advice.empty()) text += " (" + advice + ")";
  return text;
}

}  // namespace

Error::Error(Kind kind, const std::string& what, const std::string& where,
             const std::string& advice)
    : std::runtime_error(sentence(what, where, advice)), kind_(kind) {}

int Error::exit_status() const {
  switch (kind_) {
    case Kind::refused:
      return 2;
    case Kind::failed:
      return 1;
    case Kind::interrupted:
      return 130;
  }
  return 1;
}

}  // namespace narrow
