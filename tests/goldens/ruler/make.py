"""Makes ruler.json.gz and long.json.gz: what NVIDIA/RULER's own scripts generate, to be equalled by ours.

    git clone https://github.com/NVIDIA/RULER; cd RULER; git checkout c3f5e3b
    pip install numpy wonderwords==3.0.1 nltk==3.10.4      # and NLTK's punkt_tab in $NLTK_DATA
    python make.py RULER ESSAYS      # ESSAYS: data/eval/ruler/PaulGrahamEssays.json of scripts/fetch_data.py

The scripts run as they are, NLTK's sentence splitter included. Stand-ins: a tokenizer that counts a token
for every four bytes, begun ones included; in ruler.json.gz the essays, which may not be redistributed:
essays.txt.gz; zeta(2); RULER's list of English words, which its repository only points to: made-up words.
Of each sample the files have the lengths and hashes of prompt and answer prefix, and the answers whole.
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

RULER, ESSAYS, HERE = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(__file__).parent
SCRIPTS = RULER / "scripts/data/synthetic"
SHORT = {"file": "ruler.json.gz", "samples": 3, "lengths": (4096, 16384)}
LONG = {"file": "long.json.gz", "samples": 2, "lengths": (32768, 65536, 131072)}
ENGLISH_WORDS = 30000


class Tokenizer:
    def text_to_tokens(self, text):
        return range((len(text.encode()) + 3) // 4)


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    return made


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
(folder / "english_words.json").write_text(json.dumps({str(i): f"word{i}" for i in range(ENGLISH_WORDS)}))
import constants  # noqa: E402  RULER's own


def make(run, essays):
    (folder / "PaulGrahamEssays.json").write_text(essays)
    golden = []
    for name, task in yaml.safe_load((RULER / "scripts/synthetic.yaml").read_text()).items():
        base = constants.TASKS[task["task"]]
        for length in run["lengths"]:
            with tempfile.TemporaryDirectory() as out:
                sys.argv = ["x", "--save_dir", out, "--save_name", name, "--tokenizer_path", "x",
                            "--max_seq_length", str(length), "--num_samples", str(run["samples"]),
                            "--tokens_to_generate", str(base["tokens_to_generate"]),
                            "--template", base["template"] + base["answer_prefix"]]
                for key, value in task["args"].items():
                    sys.argv += [f"--{key}", str(value)]
                with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                    runpy.run_path(str(SCRIPTS / f"{task['task']}.py"), run_name="__main__")
                rows = [json.loads(line) for line in open(f"{out}/{name}/validation.jsonl")]
            golden.append({"task": name, "length": length, "samples": [
                {"input_sha256": hashlib.sha256(row["input"].encode()).hexdigest(),
                 "answer_prefix": row["answer_prefix"], "outputs": row["outputs"], "length": row["length"]}
                for row in rows]})
            print(name, length, [row["length"] for row in rows], file=sys.__stderr__)
    with gzip.GzipFile(HERE / run["file"], "wb", mtime=0) as file:
        file.write(json.dumps(golden, ensure_ascii=False, indent=0).encode())


make(SHORT, json.dumps({"text": data("essays.txt.gz")}))
make(LONG, ESSAYS.read_text())
