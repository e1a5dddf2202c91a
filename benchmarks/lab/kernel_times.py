"""Prints what the kernels of a trace take, the longest in sum first: how many, the mean of their own
times, and the mean and sum of the times from the end of the kernel in front, which is what a step
has of them (kernels begin before the one in front has ended).

    kernel_times.py TRACE [LAST]     of the last LAST of them, say those of a step

A trace is what kernel_trace.cc writes. Needs c++filt.
"""

import collections
import re
import subprocess
import sys


def main() -> int:
    if len(sys.argv) not in (2, 3) or (len(sys.argv) == 3 and not sys.argv[2].isdigit()):
        print(__doc__, file=sys.stderr)
        return 2
    with open(sys.argv[1], encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split(" ", 2) for line in lines]
    rows = rows[-int(sys.argv[2]):] if len(sys.argv) == 3 else rows
    names = subprocess.run(["c++filt"], input="\n".join(row[2] for row in rows), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    count: collections.Counter[str] = collections.Counter()
    own: collections.Counter[str] = collections.Counter()
    behind: collections.Counter[str] = collections.Counter()
    end_before = int(rows[0][0]) if rows else 0
    for (start, end, _), name in zip(rows, names):
        name = re.sub(r"\w+::|\(anonymous namespace\)::|^void ", "", name)
        name = re.sub(r"(>|^\w+)\(.*", r"\1", name)  # without its parameters
        count[name] += 1
        own[name] += int(end) - int(start)
        behind[name] += max(0, int(end) - end_before)
        end_before = max(end_before, int(end))
    print(f"{'count':>6} {'own us':>9} {'behind us':>9} {'sum ms':>9}")
    for name, nanoseconds in behind.most_common():
        print(f"{count[name]:>6} {own[name] / count[name] / 1e3:>9.1f} "
              f"{nanoseconds / count[name] / 1e3:>9.1f} {nanoseconds / 1e6:>9.3f}  {name[:110]}")
    print(f"{sum(count.values()):>6} {'':>9} {'':>9} {sum(behind.values()) / 1e6:>9.3f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        sys.exit(f"kernel_times: there is no {error.filename}")
    except ValueError as error:
        sys.exit(f"kernel_times: {error}")
