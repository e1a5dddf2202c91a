#!/bin/sh
# Builds every fuzz target and runs each: fuzz/run.sh [SECONDS, default 60] [TARGET...]
# New inputs stay in build-fuzz/corpus; a finding stops the run and leaves its file there.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(ls fuzz/*.cc | xargs -n1 basename -s .cc)
cmake --preset fuzz >/dev/null
for target; do ninja -C build-fuzz "fuzz_$target" >/dev/null; done
for target; do
  mkdir -p "build-fuzz/corpus/$target"
  seeds=
  for kind in corpus regressions; do
    [ -d "fuzz/$kind/$target" ] && seeds="$seeds fuzz/$kind/$target"
  done
  echo "== $target"
  "build-fuzz/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 \
    -malloc_limit_mb=64 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/corpus/$target-" "build-fuzz/corpus/$target" $seeds \
    2>"build-fuzz/corpus/$target.log" || { tail -40 "build-fuzz/corpus/$target.log"; exit 1; }
  grep -E "DONE|stat::(number_of_executed|peak_rss)" "build-fuzz/corpus/$target.log"
done
