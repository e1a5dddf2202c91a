"""Measures narrow on an H200 and prints tables of its figures beside vLLM's (vllm_h200.json), in
Markdown: milliseconds, seconds or requests a second, and how many times as fast narrow is, bold
where docs/performance.md aims for more.

    beside_vllm.py BUILD [rested|behind_prompts|one_at_a_time|all_at_once|fp8_kv|NAME]...

BUILD: where decode_step, deployments and libnarrow_cuda.so are. rested: steps of decode_step, which
lets the card rest before each number of sequences. behind_prompts: steps of the engine, measured as
vLLM's were. fp8_kv: all at once with narrow's keys and values in e4m3; vLLM's are in bf16 in all
tables. NAME: of a deployment ("RAG"), instead of all seven. By default all five tables.
"""

import json
import pathlib
import re
import subprocess
import sys

VLLM = json.loads(pathlib.Path(__file__).with_name("vllm_h200.json").read_text(encoding="utf-8"))
FORMATS = VLLM["formats"]
BATCHES = [b for b in VLLM["step_ms"] if b != "what"]
DEPLOYMENTS = [d for d in VLLM["all_at_once"] if d != "what"]
# Times as fast, by format.
AIMS = {"step": [1.25, 1.4, 1.4, 1.4], "one_at_a_time": [1.25, 1.5, 1.5, 2],
        "all_at_once": [1.2, 1.3, 1.3, 1.3], "first_token": [1 / 0.85] * 4}
AIMED_BATCHES = ["32", "64", "256"]
ONE_ROW_MS = [3.9, 2.3, 2.3, 1.53]  # aimed for at batch 1


def output_of(build: pathlib.Path, *command: str) -> str:
    """What a benchmark prints; its errors go where this program's do."""
    return subprocess.run([build / command[0], *command[1:]], check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def figure(value: float, times: float, reached: bool, unit: str = "") -> str:
    text = f"{value:.4g}{unit} ({times:.2f})"
    return text if reached else f"**{text}**"


def print_table(title: str, rows: dict[str, list[str]]) -> None:
    print(f"\n| {title} | {' | '.join(FORMATS)} |\n|{' --- |' * (1 + len(FORMATS))}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.flush()


def steps(build: pathlib.Path, title: str, command: list[str], pattern: str) -> None:
    rows: dict[str, list[str]] = {batch: [] for batch in BATCHES}
    for f, name in enumerate(FORMATS):
        found = dict(re.findall(pattern, output_of(build, command[0], name, *command[1:])))
        for batch in BATCHES:
            if batch not in found:
                rows[batch].append("–")
                continue
            time = float(found[batch])
            times = VLLM["step_ms"][batch][f] / time
            if batch == "1":
                reached = time <= ONE_ROW_MS[f]
            else:
                reached = times >= AIMS["step"][f] or batch not in AIMED_BATCHES
            rows[batch].append(figure(time, times, reached))
    print_table(title, rows)


def one_at_a_time(build: pathlib.Path, names: list[str]) -> None:
    rows: dict[str, list[str]] = {name: [] for name in names}
    first: dict[str, list[str]] = {name: [] for name in names}
    for f, of in enumerate(FORMATS):
        printed = output_of(build, "deployments", of, "cuda", "sync", *names)
        for name in names:
            found = re.search(re.escape(name) + r" .*?([\d.]+) s, first token ([\d.]+) ms", printed)
            total, token = float(found[1]), float(found[2])
            of_vllm = VLLM["one_at_a_time"][name][f]
            times = of_vllm[0] / total
            rows[name].append(figure(total, times, times >= AIMS["one_at_a_time"][f], " s"))
            # Only of this one something is aimed for.
            times = of_vllm[1] / token
            reached = times >= AIMS["first_token"][f] or name != "summarization"
            first[name].append(figure(token, times, reached, " ms"))
    print_table("a request at a time", rows)
    print_table("its first token", first)


def all_at_once(build: pathlib.Path, names: list[str], title: str, *options: str) -> None:
    rows: dict[str, list[str]] = {name: [] for name in names}
    for f, of in enumerate(FORMATS):
        printed = output_of(build, "deployments", of, "cuda", "async", *options, *names)
        for name in names:
            found = re.search(re.escape(name) + r" .*at once: ([\d.]+) requests/s", printed)
            rate = float(found[1])
            times = rate / VLLM["all_at_once"][name][f]
            rows[name].append(figure(rate, times, times >= AIMS["all_at_once"][f]))
    print_table(title, rows)


def main() -> int:
    tables = ["rested", "behind_prompts", "one_at_a_time", "all_at_once", "fp8_kv"]
    if len(sys.argv) < 2 or any(a not in tables + DEPLOYMENTS for a in sys.argv[2:]):
        print(__doc__, file=sys.stderr)
        return 2
    build = pathlib.Path(sys.argv[1]).resolve()
    wanted = [a for a in sys.argv[2:] if a in tables] or tables
    names = [a for a in sys.argv[2:] if a in DEPLOYMENTS] or DEPLOYMENTS
    print(subprocess.run(["nvidia-smi", "--query-gpu=name,power.limit,driver_version",
                          "--format=csv,noheader"], check=True, capture_output=True,
                         text=True).stdout, end="")
    if "rested" in wanted:
        steps(build, "a step on a rested card, ms",
              ["decode_step", "cuda", "512", *[b for b in BATCHES if int(b) <= 256]],
              r"batch +(\d+), context 512: ([\d.]+) ms")
    if "behind_prompts" in wanted:
        steps(build, "a step behind prompts, ms", ["deployments", "cuda", "steps"],
              r"(\d+) sequences: ([\d.]+) ms a step")
    if "one_at_a_time" in wanted:
        one_at_a_time(build, names)
    if "all_at_once" in wanted:
        all_at_once(build, names, "requests a second, all at once")
    if "fp8_kv" in wanted:
        all_at_once(build, names, "requests a second, all at once, keys and values in e4m3", "fp8_kv")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        sys.exit(f"beside_vllm: there is no {error.filename}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"beside_vllm: {error.cmd[0]} ended with {error.returncode}")
