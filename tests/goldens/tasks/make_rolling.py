"""loglikelihood_rolling by lm-evaluation-harness 0.4.13: its wikitext and pile_10k on stories260K, float32, CPU.

    pip install lm_eval[hf]==0.4.13 torch
    python make_rolling.py --wikitext wiki.test.raw --out .

Writes data/wikitext/test.jsonl (the shortest pages of WikiText-2's test split, headings between blank lines as in the
original file, and an invented one) and rolling.json.gz: `windows`, cuts of token lists; `runs`, the harness's results for each
task and context (`max_length`), document by document: text, log-likelihood, windows as [tokens of context, of continuation],
words or bytes counted; `scores` of all. The tasks are upstream's own files, of which only the source of the rows is replaced.
"""
import argparse, gzip, json, os, pathlib, random, tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import lm_eval, torch, yaml
from lm_eval import utils
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

p = argparse.ArgumentParser()
for name in ("wikitext", "out"): p.add_argument("--" + name, required=True)
args = p.parse_args()
out = pathlib.Path(args.out)
here = pathlib.Path(__file__).parent
torch.set_num_threads(2)

# A page begins at a heading of the first level, as in EleutherAI/wikitext_document_level.
pages = []
for line in open(args.wikitext, encoding="utf8").read().split("\n"):
    if not line.strip(): continue
    short = line.replace("= = =", "===").replace("= =", "==").strip()
    heading = short.startswith("=") and short.endswith("=")
    if short.startswith("= ") and short.endswith(" ="): pages.append([" "])
    pages[-1] += [line, " "] if heading and pages[-1][-1] == " " else [" ", line, " "] if heading else [line]
pages = sorted(("\n".join(page) + "\n" for page in pages), key=len)[:5]
pages.append(" = Marks = \n \n It cost $ 1 @,@ 000 @.@ 50 ( about £ 700 ) , the \" well @-@ known \" Smiths ' house ; it 's [ sic ] : "
             "no ! why ? { so } it was N miles at 5 ° C . \n = = A = = \n = = = B = = = \n = = = = C = = = = \n 'tis ' odd ' \" end , (")
texts = ["", " ", "One day", "<s>Once upon a time</s> there was", "Once upon a time, there was a little girl.\n\nShe\u00a0had\u2003a red ball. " * 9,
         "Tom and Lily went to the park. " * 60, "日本語 naïve café\n"]
(out / "data/wikitext").mkdir(parents=True, exist_ok=True)
(out / "data/wikitext/test.jsonl").write_text("".join(json.dumps({"page": page}, ensure_ascii=False) + "\n" for page in pages), encoding="utf8")
ROWS = {"wikitext": ("test", [{"page": page} for page in pages]), "pile_10k": ("train", [{"text": text} for text in texts])}

draw = random.Random(5)
golden = {"windows": [], "runs": []}
for count, length in [(0, 4), (1, 4), (4, 4), (5, 4), (8, 4), (9, 4), (3, 1), (draw.randint(50, 90), 16), (draw.randint(50, 90), 7)]:
    tokens = [draw.randrange(512) for _ in range(count)]
    cut = map(utils.make_disjoint_window, utils.get_rolling_token_windows(tokens, 1, length, 1))
    golden["windows"].append({"tokens": tokens, "prefix": 1, "length": length, "windows": list(cut)})


class Watched(HFLM):
    """Keeps the windows that the harness asks for."""
    def _loglikelihood_tokens(self, requests, **options):
        self.asked += [[list(context), list(continuation)] for _, context, continuation in requests]
        return super()._loglikelihood_tokens(requests, **options)


for name, (split, rows) in ROWS.items():
    for max_length in (512, 64):
        lm = Watched(pretrained=str(here / "../stories260k"), dtype="float32", device="cpu", batch_size=1, max_length=max_length)
        lm.asked = []
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/rows.jsonl", "w", encoding="utf8") as file: file.writelines(json.dumps(row) + "\n" for row in rows)
            task = dict(include=os.path.join(os.path.dirname(lm_eval.__file__), "tasks", name, name + ".yaml"), task="local", dataset_path="json",
                        dataset_name=None, dataset_kwargs={"data_files": {split: f"{folder}/rows.jsonl"}}, training_split=None, validation_split=None)
            with open(f"{folder}/local.yaml", "w") as file: yaml.safe_dump(task, file)
            result = lm_eval.simple_evaluate(model=lm, tasks=["local"], task_manager=TaskManager(include_path=folder, include_defaults=False),
                                             bootstrap_iters=0, log_samples=True)
        documents, asked = [], iter(lm.asked)
        for sample in sorted(result["samples"]["local"], key=lambda sample: sample["doc_id"]):
            text = sample["arguments"][0][0]
            count = len(list(utils.get_rolling_token_windows(lm.tok_encode(text), lm.prefix_token_id, lm.max_length, 1)))
            documents.append({"text": text, "loglikelihood": sample["word_perplexity"][0], "words": sample["word_perplexity"][1],
                              "bytes": sample["byte_perplexity"][1], "windows": [next(asked) for _ in range(count)]})
        assert next(asked, None) is None
        scores = {key.split(",")[0]: value for key, value in result["results"]["local"].items() if key.endswith(",none") and "stderr" not in key}
        golden["runs"].append({"task": name, "max_length": max_length, "documents": documents, "scores": scores})
        print(name, max_length, scores, [len(d["windows"]) for d in documents])

with gzip.GzipFile(out / "rolling.json.gz", "wb", mtime=0) as file: file.write(json.dumps(golden, ensure_ascii=False).encode())
