"""Makes ruler.json.gz: what NVIDIA/RULER's own scripts generate, to be equalled by ours.

    git clone https://github.com/NVIDIA/RULER; cd RULER; git checkout c3f5e3b
    pip install numpy wonderwords==3.0.1
    python make.py RULER

The scripts run as they are. Stand-ins: a tokenizer that counts a token for every four bytes, begun
ones included; a sentence splitter (theirs is NLTK's trained one: here a sentence ends at a word with
'.', '!' or '?' at its end, quotes and brackets behind it allowed, before a word that does not begin
with a lower-case letter); the essays, which may not be redistributed: essays.txt.gz; zeta(2).
Of each sample the file has the lengths and hashes of prompt and answer prefix, and the answers whole.
"""
import contextlib
import gzip
import hashlib
import io
import json
import math
import pathlib
import runpy
import sys
import tempfile
import types

import yaml

RULER, HERE = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
SCRIPTS = RULER / "scripts/data/synthetic"
SAMPLES, LENGTHS = 3, (4096, 16384)


def sentences(text):
    words, begin, found = text.split(" "), 0, []
    for i, word in enumerate(words):
        core = word.rstrip("\"')]")
        if i + 1 < len(words) and core[-1:] in (".", "!", "?") and core[-1:] and not words[i + 1][:1].islower():
            found.append(" ".join(words[begin:i + 1]))
            begin = i + 1
    return found + [" ".join(words[begin:])]


class Tokenizer:
    def text_to_tokens(self, text):
        return range((len(text.encode()) + 3) // 4)


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    return made


module("nltk"), module("nltk.tokenize", sent_tokenize=sentences)
module("scipy"), module("scipy.special", zeta=lambda alpha: {2.0: math.pi ** 2 / 6}[alpha])
module("tqdm", tqdm=lambda rows: rows)
module("tokenizer", select_tokenizer=lambda *_: Tokenizer())
sys.path.insert(0, str(SCRIPTS.parent))
sys.path.insert(0, str(SCRIPTS))
folder = SCRIPTS / "json"


def data(name):
    return gzip.decompress((HERE / name).read_bytes()).decode()


squad = json.loads(data("squad.json.gz"))
for document in squad["data"]:  # version 1.1 has no such field
    for paragraph in document["paragraphs"]:
        for question in paragraph["qas"]:
            question.setdefault("is_impossible", False)
(folder / "squad.json").write_text(json.dumps(squad))
(folder / "hotpotqa.json").write_text(data("hotpotqa.json.gz"))
(folder / "PaulGrahamEssays.json").write_text(json.dumps({"text": data("essays.txt.gz")}))
(folder / "english_words.json").write_text("{}")
import constants  # noqa: E402  RULER's own

golden = []
for name, task in yaml.safe_load((RULER / "scripts/synthetic.yaml").read_text()).items():
    base = constants.TASKS[task["task"]]
    for length in LENGTHS:
        with tempfile.TemporaryDirectory() as out:
            sys.argv = ["x", "--save_dir", out, "--save_name", name, "--tokenizer_path", "x",
                        "--max_seq_length", str(length), "--num_samples", str(SAMPLES),
                        "--tokens_to_generate", str(base["tokens_to_generate"]),
                        "--template", base["template"] + base["answer_prefix"]]
            for key, value in task["args"].items():
                sys.argv += [f"--{key}", str(value)]
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(SCRIPTS / f"{task['task']}.py"), run_name="__main__")
            rows = [json.loads(line) for line in open(f"{out}/{name}/validation.jsonl")]
        golden.append({"task": name, "length": length, "samples": [
            {"bytes": len(row["input"].encode()), "input_sha256": hashlib.sha256(row["input"].encode()).hexdigest(),
             "begin": row["input"][:200], "end": row["input"][-200:], "answer_prefix": row["answer_prefix"],
             "outputs": row["outputs"], "length": row["length"]} for row in rows]})
        print(name, length, [row["length"] for row in rows], file=sys.__stderr__)
with gzip.GzipFile(HERE / "ruler.json.gz", "wb", mtime=0) as file:
    file.write(json.dumps(golden, ensure_ascii=False, indent=0).encode())
