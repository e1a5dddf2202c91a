"""Prompts of lm-evaluation-harness 0.4.13's own task code, without torch and datasets.

    python make_prompts.py --harness DIR --data DIR --out DIR

DIR of the harness is the unpacked wheel of lm-eval 0.4.13. Its ConfigurableTask builds every prompt
(standins.py says what is replaced).
Writes prompts.jsonl.gz: a line for each document with task, doc_id, shots, the contexts, the
continuations and the target; with "multiturn" they went through SmolLM2's chat template. In data/ are
the rows used (for GPQA, whose own are not free to be copied, invented ones).
"""
import argparse, csv, gzip, io, json, os, random, sys

p = argparse.ArgumentParser()
for name in ("harness", "data", "out"): p.add_argument("--" + name, required=True)
args = p.parse_args()
sys.path.insert(0, args.harness)


from standins import DATA, Rows, T, load, render


def lines(name):
    path = os.path.join(args.data, name)
    with (gzip.open if path.endswith("gz") else open)(path, "rt", encoding="utf8") as f: return Rows(json.loads(l) for l in f)
def bbh(s): return Rows({k: r[k] for k in ("input", "target")} for r in json.load(open(f"{args.data}/bbh/{s}.json", encoding="utf8"))["examples"])
def mmlu(split, s):
    with open(f"{args.data}/mmlu/{split}/{s}_{split}.csv", encoding="utf8", newline="") as f:
        return Rows(dict(question=r[0], subject=s, choices=r[1:5], answer="ABCD".index(r[5])) for r in csv.reader(f))


def keep(name, rows):
    path = os.path.join(args.out, "data", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf8") as f:
        if name.endswith(".json"): json.dump({"examples": list(rows)}, f, ensure_ascii=False)
        else: f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    return rows


out = []
def run(yaml_path, splits, shots, limit, multiturn=None):
    cfg = load(os.path.join(args.harness, "lm_eval/tasks", yaml_path))
    for key in ("tag", "task_alias", "group"): cfg.pop(key, None)
    DATA["splits"] = splits
    task = T.ConfigurableTask(config=cfg)
    task.set_fewshot_seed(1234)
    for doc_id, doc in enumerate(task.eval_docs):
        if doc_id == limit: break
        chat = None
        if multiturn is not None:
            chat = render
        ctx = task.fewshot_context(doc, num_fewshot=shots, apply_chat_template=chat is not None, fewshot_as_multiturn=bool(multiturn),
                                   chat_template=chat, gen_prefix=task.doc_to_prefix(doc))
        inst = task.construct_requests(doc, ctx, metadata=(cfg["task"], doc_id, 1), apply_chat_template=chat is not None, chat_template=chat)
        inst = inst if isinstance(inst, list) else [inst]
        contexts = [i.args[0] for i in inst]
        row = dict(task=cfg["task"], doc_id=doc_id, shots=shots, contexts=contexts[:1] if len(set(contexts)) == 1 else contexts,
                   continuations=[i.args[1] for i in inst] if isinstance(inst[0].args[1], str) else [], target=str(task.doc_to_target(doc)))
        if multiturn is not None: row["multiturn"] = multiturn
        out.append(row)


L = "leaderboard/"
for s in sorted(f[:-5] for f in os.listdir(f"{args.harness}/lm_eval/tasks/{L}bbh_mc") if f.endswith(".yaml") and f[0] != "_"):
    run(f"{L}bbh_mc/{s}.yaml", {"test": keep(f"bbh/{s}.json", Rows(bbh(s)[:2]))}, 3, 2)
for s in ("murder_mysteries", "object_placements", "team_allocation"):
    run(f"{L}musr/musr_{s}.yaml", {s: keep(f"musr/{s}.jsonl", Rows(lines(f"musr/{s}.jsonl")[:1]))}, 0, 1)
random.seed(0)
for s in ("diamond", "extended", "main"):
    rows = Rows({"Question": f"Which of these is number {i} of {s}?", "Correct Answer": f" right {i} [note]", "Incorrect Answer 1": f"first  wrong {i}",
                 "Incorrect Answer 2": f"second wrong {i}\n", "Incorrect Answer 3": f"third [title] wrong {i}"} for i in range(6))
    # datasets keeps the result of a map in its cache: the shuffle happens once
    class Once(Rows):
        def map(self, f):
            if not hasattr(self, "kept"): self.kept = Rows.map(self, f)
            return self.kept
    run(f"{L}gpqa/gpqa_{s}_zeroshot.yaml", {"train": Once(keep(f"gpqa/gpqa_{s}.jsonl", rows))}, 0, 6)
for s in ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus"):
    f = {"counting_and_probability": "counting_and_prob", "number_theory": "num_theory"}.get(s, s)
    rows = keep(f"math_level5/{s}.jsonl", Rows(lines(f"math_level5/{s}.jsonl")[:2]))
    run(f"{L}math/math_{f}.yaml", {"train": rows, "test": rows}, 4, 2)
run(L + "ifeval/ifeval.yaml", {"train": keep("ifeval/input_data.jsonl", Rows(lines("ifeval/input_data.jsonl")[:8]))}, 0, 2)
run(L + "mmlu_pro/mmlu_pro.yaml", {"test": keep("mmlu_pro/test.jsonl", Rows(lines("mmlu_pro/test.jsonl.gz")[:3])),
    "validation": keep("mmlu_pro/validation.jsonl", Rows(lines("mmlu_pro/validation.jsonl")[:5]))}, 5, 2)
I = "llama3/instruct/"
for multiturn in (None, True, False):
    run(I + "arc_challenge/arc_challenge_llama.yaml", {"test": keep("arc/ARC-Challenge-test.jsonl", Rows(lines("arc/ARC-Challenge-test.jsonl")[:3]))}, 0, 2, multiturn)
    run(I + "gsm8k/gsm8k.yaml", {"test": keep("gsm8k/test.jsonl", Rows(lines("gsm8k/test.jsonl")[:2]))}, 8, 2, multiturn)
    rows = {split: keep(f"mmlu/{split}/anatomy.jsonl", Rows(mmlu(split, "anatomy")[:5])) for split in ("test", "dev")}
    run(I + "mmlu/mmlu_anatomy.yaml", rows, 5, 2, multiturn)
    run(I + "mmlu_cot/mmlu_anatomy.yaml", rows, 0, 2, multiturn)
    run("gsm8k/gsm8k-cot-llama.yaml", {"test": keep("gsm8k/test.jsonl", Rows(lines("gsm8k/test.jsonl")[:2]))}, 8, 2, multiturn)

os.makedirs(args.out, exist_ok=True)
buffer = io.BytesIO()
with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as f: f.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in out).encode())
with open(args.out + "/prompts.jsonl.gz", "wb") as f: f.write(buffer.getvalue())
print(len(out), "documents")
