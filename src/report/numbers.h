// How numbers are written. Digits follow the standard error: two significant digits of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "analyse/analysis.h"

namespace narrow::report {

// Decimals for a quantity whose standard error is `error`, in the quantity's unit; 0 to 4. Without
// an error: `otherwise`.
int decimals(double error, int otherwise);
// Standard error that a 95 % interval stands for; 0 without one.
double error_of(const std::optional<analyse::Interval>& interval);

std::string fixed(double value, int decimals);
std::string percent(double share, int decimals);        // "41.7 %"
std::string points(double difference, int decimals);    // "+1.7", a true minus sign
std::string p_value(double p);                          // "0.031", "< 0.001"
std::string bytes(int64_t count);                       // "270 MB"
std::string seconds(double value);                      // "1.24 s", "310 ms"
std::string significant(double value, int digits = 3);  // "1 390", "0.0123"
std::string whole(int64_t value);                       // "14 042"
// "1.2 to 3.4", scaled; empty without an interval.
std::string range(const std::optional<analyse::Interval>& interval, double scale, int decimals);
std::string signed_range(const std::optional<analyse::Interval>& interval, double scale,
                         int decimals);

}  // namespace narrow::report
