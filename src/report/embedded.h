// The page's parts, made into arrays at build time (embed.cmake).
#pragma once

#include <string_view>

namespace narrow::report {

std::string_view page_css();
std::string_view page_js();
std::string_view reader_js();
std::string_view chart_min_js();  // Chart.js 3.9.1, MIT

}  // namespace narrow::report
