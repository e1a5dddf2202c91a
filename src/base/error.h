// The one exception of the project. Thrown by fallible functions, caught once per verb, request or
// cell. Input from files, users and the network is answered with an Error, never asserted on.
#pragma once

#include <stdexcept>
#include <string>

namespace narrow {

class Error : public std::runtime_error {
 public:
  // The kind decides the exit status of a verb (docs/reliability.md).
  enum class Kind {
    refused,      // bad arguments or input, found before work started: exit 2
    failed,       // broke while running: exit 1
    interrupted,  // the user asked to stop; finished rows are kept: exit 130
  };

  // what: what went wrong. where: file, offset, tensor, field. advice: what to do about it.
  Error(Kind kind, const std::string& what, const std::string& where = {},
        const std::string& advice = {});

  static Error refused(const std::string& what, const std::string& where = {},
                       const std::string& advice = {}) {
    return {Kind::refused, what, where, advice};
  }
  static Error failed(const std::string& what, const std::string& where = {},
                      const std::string& advice = {}) {
    return {Kind::failed, what, where, advice};
  }

  Kind kind() const { return kind_; }
  int exit_status() const;

 private:
  Kind kind_;
};

}  // namespace narrow
