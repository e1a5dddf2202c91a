"""Prints what whole steps of a trace take by the GPU's clock, and what lies between them, steps of
the same kernels together: how many, the median of their times, and the median and longest gap
between the end of the step in front and their beginning, and how many are above 20 us.

    step_times.py TRACE     of what kernel_trace.cc writes

A step ends with what is asked of its logits, and begins with the next kernel that copies metadata
from the host, which may start before the step in front has ended (a gap of 0); its time counts from
there or from that end. So a step whose logits nobody asks for counts as part of the next one.
"""

import collections
import statistics
import sys

FIRST, LAST = "copy_words_kernel", "summarize_logits_kernel"
LONG_NS = 20_000
FEW = 5  # steps that are counted together as others


def steps_of(path: str) -> list[tuple[str, float, float]]:
    """(its kernels, nanoseconds it takes, of the gap in front), without the first, which has none."""
    steps = []
    names: list[str] = []
    begin = end = end_before = 0
    ended = True  # nothing counts before the first step begins
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split(" ", 2) for line in lines]
    for start, stop, name in [*rows, ["0", "0", FIRST]]:
        if FIRST in name and ended:
            if end_before and names:
                steps.append((" ".join(names), end - max(begin, end_before),
                              max(0, begin - end_before)))
            if names:
                end_before = end
            names, begin, end, ended = [], int(start), 0, False
        elif begin and not name.startswith("mem"):
            names.append(name)
            end = max(end, int(stop))
            ended = ended or LAST in name
    return steps


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    by_kernels = collections.defaultdict(list)
    for kernels, time, gap in steps_of(sys.argv[1]):
        by_kernels[kernels].append((time, gap))
    if not by_kernels:
        sys.exit(f"step_times: {sys.argv[1]} has no two steps, as kernel_trace writes them")
    others = [step for steps in by_kernels.values() if len(steps) < FEW for step in steps]
    groups = [(f"{len(kernels.split())} kernels", steps) for kernels, steps in by_kernels.items()
              if len(steps) >= FEW]
    groups.sort(key=lambda group: -len(group[1]))
    if others:
        groups.append(("others", others))
    print(f"{'steps':>6} {'median ms':>10} {'gap: median us':>15} {'longest':>8} {'above 20':>9}")
    for what, steps in groups:
        gaps = [gap for _, gap in steps]
        print(f"{len(steps):>6} {statistics.median(time for time, _ in steps) / 1e6:>10.3f} "
              f"{statistics.median(gaps) / 1e3:>15.1f} {max(gaps) / 1e3:>8.1f} "
              f"{sum(gap > LONG_NS for gap in gaps):>9}  {what}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"step_times: {error.filename}: {error.strerror}")
