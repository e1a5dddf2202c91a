"""Prints the kernels that a library has for an architecture and that are in no trace.

    kernels_not_run.py LIBRARY ARCHITECTURE TRACE...     for instance build/libnarrow_cuda.so sm_90a

Traces are what kernel_trace.cc writes of programs that loaded this very library: names of kernels
in unnamed namespaces hold a number that differs from build to build. Needs cuobjdump, of the CUDA
toolkit, and c++filt. Ends with 1 if there are any.
"""

import re
import subprocess
import sys


def kernels_of(library: str, architecture: str) -> set[str]:
    listing = subprocess.run(["cuobjdump", "-res-usage", library],
                             check=True, capture_output=True, text=True).stdout
    names, wanted = set(), False
    for line in listing.splitlines():
        if found := re.match(r"arch = (\w+)", line):
            wanted = found[1] == architecture
        elif wanted and (found := re.match(r"\s*Function (\S+):", line)):
            names.add(found[1])
    if not names:
        sys.exit(f"kernels_not_run: {library} has no kernels for {architecture}")
    return names


def main() -> int:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    kernels = kernels_of(sys.argv[1], sys.argv[2])
    run = set()
    for trace in sys.argv[3:]:
        with open(trace, encoding="utf-8") as lines:
            run.update(line.split(" ", 2)[2].strip() for line in lines)
    missing = sorted(kernels - run)
    names = subprocess.run(["c++filt"], input="\n".join(missing), check=True, capture_output=True,
                           text=True).stdout
    print(names, end="\n" if missing else "")
    print(f"{len(missing)} of {len(kernels)} kernels not run")
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        sys.exit(f"kernels_not_run: there is no {error.filename}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"kernels_not_run: {error.stderr.strip()}")
