"""A question with several right answers: prompts and scores by lm-evaluation-harness 0.4.13's own code.

    python make_several_answers.py --harness DIR_OF_THE_UNPACKED_WHEEL > several_answers.json

The task is its nq_open.yaml (examples from the documents, which it draws from a training split).
"""
import argparse, json, os, sys

p = argparse.ArgumentParser()
p.add_argument("--harness", required=True)
args = p.parse_args()
sys.path.insert(0, args.harness)
os.environ["DISABLE_MULTIPROC"] = "1"
import numpy  # noqa: F401  before what stands in for packages that are not installed
import standins

rows = [{"question": "who wrote it", "answer": ["Jane Austen", "Austen"]}, {"question": "how many", "answer": ["7", "seven"]},
        {"question": "where", "answer": ["Mackenzie's \"Inn\""]}]
standins.DATA["splits"] = {"train": standins.Rows(rows), "validation": standins.Rows(rows)}
cfg = standins.load(args.harness + "/lm_eval/tasks/nq_open/nq_open.yaml")
cfg.pop("tag", None)
out = {"rows": rows, "yaml": standins.yaml.safe_dump(cfg), "prompts": [], "scores": []}
task = standins.T.ConfigurableTask(config=cfg)
for shots in (0, 1, 2):
    task.set_fewshot_seed(1234)
    for doc in task.eval_docs: out["prompts"].append([shots, task.fewshot_context(doc, num_fewshot=shots)])
for doc in task.eval_docs:
    for response in ("Austen", "the Austen", "jane austen", "Seven!", "7", "['7', 'seven']", "mackenzies inn", "Jane"):
        out["scores"].append([response, task.process_results(doc, [response])["exact_match"]])
print(json.dumps(out))
