// The Python that runs in the jails (sandbox/python/), made into arrays at build time
// (embed.cmake).
#pragma once

#include <string_view>

namespace narrow::sandbox {

std::string_view wire_py();      // part of both sides
std::string_view program_py();   // after wire: the program's side
std::string_view evalplus_py();  // after wire: comparison and extraction, the oracle's
std::string_view oracle_py();    // after evalplus: the oracle
std::string_view selftest_py();

}  // namespace narrow::sandbox
