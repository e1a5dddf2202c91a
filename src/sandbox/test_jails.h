// The jails that tests run programs in.
#pragma once

#include <cstdio>
#include <vector>

#include "base/error.h"
#include "sandbox/jail.h"

namespace narrow::sandbox {

// Those that this machine gives to this user. At least one: otherwise programs cannot be run here.
inline const std::vector<Jail>& jails() {
  static const std::vector<Jail> list = [] {
    std::vector<Jail> found;
    for (const Mode mode : {Mode::namespaces, Mode::own_user, Mode::landlock}) {
      try {
        found.push_back(Jail::probe(mode));
        std::printf("%s\n", found.back().description().c_str());
      } catch (const Error& error) {
        std::printf("%s\n", error.what());
      }
    }
    return found;
  }();
  return list;
}

}  // namespace narrow::sandbox
