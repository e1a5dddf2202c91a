"""bert_score 0.3.13's own scores with the two tiny encoders: encoders/bert_score.jsonl.

    pip install bert_score==0.3.13 transformers==4.57.6 torch==2.15.0
    python make_bertscore.py

The pairs of encoders.jsonl, plain and with idf, through the package as it is: its slow tokenizers (their files are
written from tokenizer.json), its padding to a batch, its layer.
"""
import json
import pathlib
import shutil
import tempfile

import bert_score

HERE = pathlib.Path(__file__).parent / "encoders"
rows = [json.loads(line) for line in open(HERE / "encoders.jsonl", encoding="utf-8")]
with open(HERE / "bert_score.jsonl", "w", encoding="utf-8") as out:
    for name in ("tiny-bert", "tiny-roberta"):
        texts = [row["text"] for row in rows if row["encoder"] == name and "ids" in row]
        pairs = [row for row in rows if row["encoder"] == name and "plain" in row]
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / name
            shutil.copytree(HERE / name, model)
            tokenizer = json.loads((model / "tokenizer.json").read_text())
            vocabulary = {**tokenizer["model"]["vocab"], **{t["content"]: t["id"] for t in tokenizer["added_tokens"]}}
            (model / "tokenizer.json").unlink()
            if name == "tiny-bert":
                (model / "vocab.txt").write_text("".join(t + "\n" for t in sorted(vocabulary, key=vocabulary.get)))
            else:
                (model / "vocab.json").write_text(json.dumps(vocabulary))
                merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
                (model / "merges.txt").write_text("#version: 0.2\n" + "".join(m + "\n" for m in merges))
            references = [texts[row["a"]] for row in pairs]
            candidates = [texts[row["b"]] for row in pairs]
            scores = {}
            for key, idf in (("plain", False), ("idf", True)):
                scores[key] = [[round(x, 6) for x in part.tolist()] for part in bert_score.score(
                    candidates, references, model_type=str(model), num_layers=pairs[0]["layer"], idf=idf, batch_size=4)]
        for i, row in enumerate(pairs):
            out.write(json.dumps({"encoder": name, "a": row["a"], "b": row["b"], "layer": row["layer"],
                                  **{key: [part[i] for part in value] for key, value in scores.items()}}) + "\n")
