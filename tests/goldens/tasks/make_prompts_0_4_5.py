"""Prompts and verdicts of lm-evaluation-harness 0.4.5's own code, for the @0.4.5 variants of tasks.

    python make_prompts_0_4_5.py --harness DIR_OF_THE_UNPACKED_WHEEL --out .

Reads the rows in data/ and ../evaluation/data, writes prompts-0.4.5.jsonl.gz (form: make_prompts.py); and,
with sympy 1.13.3 and antlr4-python3-runtime 4.11, math-0.4.5.jsonl.gz: what process_results of MATH says of
the answers in ../checkers.
"""
import argparse, csv, gzip, io, json, os, random, sys

p = argparse.ArgumentParser()
for name in ("harness", "out"): p.add_argument("--" + name, required=True)
args = p.parse_args()
sys.path.insert(0, args.harness)

from standins import DATA, Rows, T, load, render

here = os.path.dirname(os.path.abspath(__file__))
def lines(name):
    path = os.path.join(here, name)
    with (gzip.open if path.endswith("gz") else open)(path, "rt", encoding="utf8") as f: return Rows(json.loads(l) for l in f)
def mmlu(split):
    with open(f"{here}/../evaluation/data/mmlu/{split}/anatomy_{split}.csv", encoding="utf8", newline="") as f:
        return Rows(dict(question=r[0], subject="anatomy", choices=r[1:5], answer="ABCD".index(r[5])) for r in csv.reader(f))
def bbh(s): return Rows(json.load(open(f"{here}/data/bbh/{s}.json", encoding="utf8"))["examples"])

out = []
def run(yaml_path, splits, shots, limit, modes=(None, True, False)):
    for multiturn in modes:
        cfg = load(os.path.join(args.harness, "lm_eval/tasks", yaml_path))
        for key in ("tag", "task_alias", "group"): cfg.pop(key, None)
        DATA["splits"] = splits
        task = T.ConfigurableTask(config=cfg)
        task.set_fewshot_seed(1234)
        chat = None if multiturn is None else lambda messages: render(messages, True)
        for doc_id, doc in enumerate(task.eval_docs):
            if doc_id == limit: break
            ctx = task.fewshot_context(doc, shots, None, chat is not None, bool(multiturn), chat)
            inst = task.construct_requests(doc, ctx, metadata=(cfg["task"], doc_id, 1))
            inst = inst if isinstance(inst, list) else [inst]
            contexts = [i.args[0] for i in inst]
            row = dict(task=cfg["task"], version=cfg["metadata"]["version"], doc_id=doc_id, shots=shots, contexts=contexts[:1] if len(set(contexts)) == 1 else contexts,
                       continuations=[i.args[1] for i in inst] if isinstance(inst[0].args[1], str) else [], target=str(task.doc_to_target(doc)))
            if multiturn is not None: row["multiturn"] = multiturn
            out.append(row)


V1 = "../evaluation/data/"
run("arc/arc_challenge.yaml", {"train": lines(V1 + "arc_challenge/train.jsonl.gz"), "validation": Rows(),
                               "test": lines(V1 + "arc_challenge/test.jsonl")}, 5, 2)
run("hellaswag/hellaswag.yaml", {"train": lines(V1 + "hellaswag/train_fewshot11.jsonl"), "validation": lines(V1 + "hellaswag/validation.jsonl")}, 10, 2)
run("mmlu/default/mmlu_anatomy.yaml", {split: mmlu(split) for split in ("test", "dev")}, 5, 2)
run("gsm8k/gsm8k.yaml", {"train": lines(V1 + "gsm8k/train.jsonl.gz"), "test": lines(V1 + "gsm8k/test.jsonl")}, 5, 2)
with open(f"{here}/data/truthfulqa/mc_task.json", encoding="utf8") as f: rows = json.load(f)
run("truthfulqa/truthfulqa_mc2.yaml", {"validation": Rows(dict(question=r["question"], mc2_targets=dict(
    choices=list(r["mc2_targets"]), labels=list(r["mc2_targets"].values()))) for r in rows)}, 0, 2)
rows = {"train": lines(V1 + "winogrande/train.jsonl"), "validation": lines(V1 + "winogrande/validation.jsonl")}
run("winogrande/default.yaml", rows, 5, 2)
L = "leaderboard/"
for s in ("boolean_expressions", "date_understanding", "web_of_lies"):  # the documents themselves are the examples
    run(f"{L}bbh_mc/{s}.yaml", {"test": bbh(s)}, 1, 2)
for s in ("murder_mysteries", "object_placements", "team_allocation"):
    run(f"{L}musr/musr_{s}.yaml", {s: lines(f"data/musr/{s}.jsonl")}, 0, 1)
random.seed(0)
for s in ("diamond", "extended", "main"):
    class Once(Rows):  # datasets keeps the result of a map in its cache: the shuffle happens once
        def map(self, f):
            if not hasattr(self, "kept"): self.kept = Rows.map(self, f)
            return self.kept
    run(f"{L}gpqa/gpqa_{s}_zeroshot.yaml", {"train": Once(lines(f"data/gpqa/gpqa_{s}.jsonl"))}, 0, 6)
rows = lines("data/math_level5/algebra.jsonl")
run(f"{L}math/math_algebra.yaml", {"train": rows, "test": rows}, 4, 2)
run(L + "ifeval/ifeval.yaml", {"train": lines("data/ifeval/input_data.jsonl")}, 0, 2)
run(L + "mmlu_pro/mmlu_pro.yaml", {"test": lines("data/mmlu_pro/test.jsonl"), "validation": lines("data/mmlu_pro/validation.jsonl")}, 5, 2)
run("gsm8k/gsm8k-cot-llama.yaml", {"test": lines("data/gsm8k/test.jsonl")}, 8, 2)

def write(name, rows):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as f: f.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode())
    with open(f"{args.out}/{name}.jsonl.gz", "wb") as f: f.write(buffer.getvalue())
    print(name, len(rows))
write("prompts-0.4.5", out)

sys.path.insert(0, args.harness + "/lm_eval/tasks/leaderboard/math")
sys.modules.pop("utils", None)
import utils as math
pairs = [dict(gold=r["gold"], response=f"Final Answer: The final answer is ${r['answer']}$. I hope it is correct.") for r in lines("../checkers/math.jsonl.gz")]
pairs += [dict(gold=r["gold"], response=r["response"]) for r in lines("../checkers/math_pairs.jsonl.gz")]
write("math-0.4.5", [dict(r, exact_match=int(math.process_results({"answer": math.normalize_final_answer(r["gold"])}, [r["response"]])["exact_match"]))
                     for r in pairs])
