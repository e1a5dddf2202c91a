"""Fetches the evaluation data from the Hugging Face hub into data/hub, splits for examples included.

    .venv/bin/python scripts/fetch_hub_data.py [TASK...]          default: all
    narrow eval MODEL --tasks TASK --data data/hub

Tasks: arc_challenge, gsm8k, hellaswag, mmlu, winogrande. Reads the Parquet files that the hub makes of
every data set (branch refs/convert/parquet) through huggingface_hub, which honours HF_ENDPOINT, HF_TOKEN,
HF_HOME and HF_HUB_OFFLINE and keeps what it downloaded; writes them as JSON lines.
"""
import json
import pathlib
import sys

import pyarrow
import pyarrow.parquet
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from fetching import OK, replace_file

TARGET = pathlib.Path(__file__).parent.parent / "data/hub"
REVISION = "refs/convert/parquet"
MOST_FILES = 100  # of one split
# task: repository, configuration, splits
SETS = {
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge", ("train", "validation", "test")),
    "gsm8k": ("openai/gsm8k", "main", ("train", "test")),
    "hellaswag": ("Rowan/hellaswag", "default", ("train", "validation")),
    "winogrande": ("allenai/winogrande", "winogrande_xl", ("train", "validation")),
}
MMLU = ("cais/mmlu", "all", ("dev", "test"))


def rows_of(repository, configuration, split):
    """All rows of a split, file after file until there is no next one."""
    rows = []
    for number in range(MOST_FILES):
        name = f"{configuration}/{split}/{number:04}.parquet"
        try:
            path = hf_hub_download(repository, name, repo_type="dataset", revision=REVISION)
        except HfHubHTTPError as error:
            if number > 0 and error.response is not None and error.response.status_code == 404:
                break
            raise
        except LocalEntryNotFoundError:  # offline
            if number > 0:
                break
            raise
        rows += pyarrow.parquet.read_table(path).to_pylist()
    return rows


def write(name, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(TARGET / name, text.encode())
    print(f"  {name}: {len(rows)} rows", file=sys.stderr)


def fetch(task):
    print(task, file=sys.stderr)
    if task == "mmlu":
        repository, configuration, splits = MMLU
        for split in splits:
            subjects = {}
            for row in rows_of(repository, configuration, split):
                subjects.setdefault(row["subject"], []).append(row)
            for subject, rows in sorted(subjects.items()):
                write(f"mmlu/{split}/{pathlib.PurePath(subject).name}.jsonl", rows)
        return
    repository, configuration, splits = SETS[task]
    for split in splits:
        write(f"{task}/{split}.jsonl", rows_of(repository, configuration, split))


def main(tasks):
    known = {*SETS, "mmlu"}
    if unknown := set(tasks) - known:
        raise ValueError(f"no such task: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    for task in tasks or sorted(known):
        fetch(task)
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, KeyError, pyarrow.ArrowException, HfHubHTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
