// How often the report's rules err, over studies drawn under a known truth: 10 000 of each kind
// (or the number given). Prints one row a rule and fails when a rate leaves its bounds: tests at
// 5 % may reject at most 5.5 %, intervals must miss 5 % ± 0.5 where they claim to be exact in
// large samples, averages and exact tests may be cautious.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "analyse/simulate.h"

namespace {

bool check(const char* rule, double rate, double low, double high) {
  const bool good = rate >= low && rate <= high;
  std::printf("%-62s %6.2f %%   allowed %4.2f to %4.2f %s\n", rule, 100 * rate, 100 * low,
              100 * high, good ? "" : "  WRONG");
  std::fflush(stdout);
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace narrow::analyse;
  const long studies = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 10000;
  if (studies < 100) {
    std::fprintf(stderr, "usage: statistics_errors [STUDIES], at least 100\n");
    return 2;
  }
  bool good = true;
  const ErrorRates few = simulate_binary(studies, 150, 0.1, 0, 0.05, 100, 11);
  good &= check("exact McNemar rejects, 150 questions, 10 % flips", few.mcnemar, 0, 0.055);
  good &= check("Tango interval misses 0, 150 questions, 10 % flips", few.interval, 0.045, 0.055);
  const ErrorRates many = simulate_binary(studies, 400, 0.2, 0, 0.05, 2000, 12);
  good &= check("exact McNemar rejects, 400 questions, 20 % flips", many.mcnemar, 0, 0.055);
  good &= check("BCa interval misses 0, 400 questions, 20 % flips", many.interval, 0.045, 0.055);
  const ErrorRates edge = simulate_binary(studies, 400, 0.2, -0.05, 0.05, 2000, 13);
  good &= check("no worse claimed at a true loss of the margin, 400 questions", edge.non_inferior,
                0.0, 0.03);
  good &= check("BCa interval misses 0, 200 graded questions",
                simulate_graded(studies, 200, 1, 2000, 14), 0.045, 0.055);
  good &= check("BCa interval misses 0, 100 clusters of 4 graded questions",
                simulate_graded(studies, 400, 4, 2000, 15), 0.045, 0.057);
  const ClaimRates one = simulate_claims(studies, 1, 400, 0.1, 0.05, 0.05, 2000, 18);
  good &=
      check("lossless shown at a true loss of the margin, 400 questions", one.lossless, 0, 0.03);
  good &= check("interval of the recovery misses it, 400 questions", one.recovery, 0, 0.055);
  const ClaimRates few_flips = simulate_claims(studies, 1, 150, 0.1, 0.05, 0.05, 100, 19);
  good &= check("lossless shown at a true loss of the margin, 150 questions", few_flips.lossless, 0,
                0.03);
  good &= check("interval of the recovery misses it, 150 questions", few_flips.recovery, 0, 0.055);
  const ClaimRates tasks = simulate_claims(studies, 5, 150, 0.1, 0.03, 0.03, 100, 20);
  good &= check("lossless shown at a true loss of the margin, average of 5 x 150", tasks.lossless,
                0, 0.03);
  good &= check("interval of that recovery misses it", tasks.recovery, 0, 0.055);
  good &= check("Holm lets one of 20 tests reject, 300 questions, 10 % flips",
                simulate_family(studies, 20, 300, 0.1, 21), 0, 0.055);
  good &= check("sign flips reject, 60 graded questions",
                simulate_sign_flips(studies, 60, 2000, 22), 0.045, 0.055);
  good &= check("interval of the average of 5 tasks misses 0, 60 questions, 5 % flips",
                simulate_average(studies, 5, 60, 0.05, 100, 16), 0, 0.055);
  good &= check("interval of the average of 5 tasks misses 0, 400 questions, 20 % flips",
                simulate_average(studies / 4, 5, 400, 0.2, 1000, 17), 0, 0.06);
  return good ? 0 : 1;
}
