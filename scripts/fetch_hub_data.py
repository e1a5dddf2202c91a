"""Fetches the evaluation data from the Hugging Face hub into data/hub, splits for examples included.

    .venv/bin/python scripts/fetch_hub_data.py [TASK...]          default: all but GPQA
    narrow eval MODEL --tasks TASK --data data/hub

Tasks: those of both Open LLM Leaderboards, math_500, aime_2024 and wikitext, by the names of tasks/. GPQA is fetched
only when it is named, since its owners grant access to each account (HF_TOKEN). Reads the Parquet files that the hub
makes of every data set (branch refs/convert/parquet) through huggingface_hub, which honours HF_ENDPOINT, HF_TOKEN,
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
BBH = ("boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "formal_fallacies",
       "geometric_shapes", "hyperbaton", "logical_deduction_five_objects", "logical_deduction_seven_objects",
       "logical_deduction_three_objects", "movie_recommendation", "navigate", "object_counting", "penguins_in_a_table",
       "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
       "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
       "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies")
MUSR = ("murder_mysteries", "object_placements", "team_allocation")
MATH = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
        "precalculus")
# task: repository, and configuration and split of each file
SETS = {
    "aime_2024": ("HuggingFaceH4/aime_2024", {"train": ("default", "train")}),
    "arc_challenge": ("allenai/ai2_arc", {s: ("ARC-Challenge", s) for s in ("train", "validation", "test")}),
    "gsm8k": ("openai/gsm8k", {s: ("main", s) for s in ("train", "test")}),
    "hellaswag": ("Rowan/hellaswag", {s: ("default", s) for s in ("train", "validation")}),
    "leaderboard_bbh": ("SaylorTwift/bbh", {name: (name, "test") for name in BBH}),
    "leaderboard_gpqa": ("Idavidrein/gpqa", {n: (f"gpqa_{n}", "train") for n in ("diamond", "extended", "main")}),
    "leaderboard_ifeval": ("wis-k/instruction-following-eval", {"train": ("default", "train")}),
    "leaderboard_math_hard": ("DigitalLearningGmbH/MATH-lighteval", {name: (name, "test") for name in MATH}),
    "leaderboard_mmlu_pro": ("TIGER-Lab/MMLU-Pro", {s: ("default", s) for s in ("validation", "test")}),
    "leaderboard_musr": ("TAUR-Lab/MuSR", {name: ("default", name) for name in MUSR}),
    "math_500": ("HuggingFaceH4/MATH-500", {"test": ("default", "test")}),
    "truthfulqa_mc2": ("truthfulqa/truthful_qa", {"validation": ("multiple_choice", "validation")}),
    "wikitext": ("EleutherAI/wikitext_document_level", {"test": ("wikitext-2-raw-v1", "test")}),
    "winogrande": ("allenai/winogrande", {s: ("winogrande_xl", s) for s in ("train", "validation")}),
}
ON_REQUEST = {"leaderboard_gpqa"}
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
    repository, files = SETS[task]
    for name, (configuration, split) in files.items():
        write(f"{task}/{name}.jsonl", rows_of(repository, configuration, split))


def main(tasks):
    known = {*SETS, "mmlu"}
    if unknown := set(tasks) - known:
        raise ValueError(f"no such task: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    for task in tasks or sorted(known - ON_REQUEST):
        fetch(task)
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, KeyError, pyarrow.ArrowException, HfHubHTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
