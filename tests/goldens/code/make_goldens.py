"""Goldens of the code benchmarks: EvalPlus's own verdicts on canonical and mutated solutions.

    python make_goldens.py --evalplus DIR --data DIR --prompts DIR --out DIR

DIR of evalplus: the unpacked wheel of evalplus 0.3.1 (its `untrusted_check` judges, with a least limit
of 4 seconds; numpy and psutil are needed). data: humaneval/, humaneval_plus/, mbpp/ and mbpp_plus/;
prompts: humaneval-prompts.jsonl.gz and mbpp-3shot-prompts.jsonl.gz, lm-eval 0.4.13's own. Writes
humaneval.jsonl.gz, mbpp.jsonl.gz (the rows of the prompts), evalplus.jsonl.gz (a choice of problems,
at most 24 extra inputs of each), prompts.jsonl.gz and verdicts.jsonl.gz (task_id, program, base, plus).
"""
import argparse
import ast
import copy
import gzip
import json
import os
import random
import sys

p = argparse.ArgumentParser()
for name in ("evalplus", "data", "prompts", "out"):
    p.add_argument("--" + name, required=True)
args = p.parse_args()
sys.path.insert(0, args.evalplus)
from evalplus.eval import untrusted_check
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.gen.util import trusted_exec


def deserializer():
    # data/mbpp.py imports downloaders; the one function is all that is wanted of it.
    text = open(os.path.join(args.evalplus, "evalplus/data/mbpp.py")).read()
    node = next(n for n in ast.parse(text).body if getattr(n, "name", "") == "mbpp_deserialize_inputs")
    space = {}
    exec(ast.get_source_segment(text, node), space)
    return space["mbpp_deserialize_inputs"]


def lines(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(os.path.join(args.data, path), "rt") as f:
        return [line for line in f if line.strip()]


def write(name, rows):
    with open(os.path.join(args.out, name), "wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as f:
            for row in rows:
                f.write((row if isinstance(row, str) else json.dumps(row)).strip().encode() + b"\n")


PROBLEMS = [0, 2, 4, 10, 20, 21, 32, 33, 45, 47, 64, 71, 82, 99, 111, 125, 133, 136, 162]
MBPP = [2, 4, 7, 63, 75, 87, 106, 111, 115, 124, 140, 164, 249, 250, 252, 259, 262, 278, 295, 307, 404,
        558, 579, 580, 581, 611, 722, 737, 749, 778]


class Mutate(ast.NodeTransformer):
    def __init__(self, entry, kind, rng):
        self.entry, self.kind, self.rng = entry, kind, rng

    def visit_Return(self, node):
        self.generic_visit(node)
        value = node.value
        wrap = {
            "as_tuple": "tuple(V) if isinstance(V, list) else V",
            "as_list": "list(V) if isinstance(V, tuple) else V",
            "as_float": "float(V) if isinstance(V, int) else V",
            "a_bit_more": "V + 1e-9 if isinstance(V, float) else V",
            "far_more": "V + 1e-3 if isinstance(V, float) else V",
            "relative": "V * (1 + 5e-8) if isinstance(V, float) else V",
            "text": "str(V)",
            "none": "None",
            "one_off": "V + 1 if isinstance(V, int) else V",
            "subclass": "__import__('collections').OrderedDict(V) if isinstance(V, dict) else V",
            "generator": "(i for i in V) if isinstance(V, list) else V",
            "reversed": "V[::-1] if isinstance(V, (list, tuple, str)) else V",
        }.get(self.kind)
        if wrap is None or value is None:
            return node
        text = "(lambda V: %s)(X)" % wrap
        new = ast.parse(text, mode="eval").body
        for part in ast.walk(new):
            for i, argument in enumerate(getattr(part, "args", []) if isinstance(part, ast.Call) else []):
                if isinstance(argument, ast.Name) and argument.id == "X":
                    part.args[i] = value
        return ast.copy_location(ast.Return(new), node)

    def visit_Compare(self, node):
        self.generic_visit(node)
        swaps = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
        if self.kind == "compare" and type(node.ops[0]) in swaps and self.rng.random() < 0.7:
            node.ops[0] = swaps[type(node.ops[0])]()
        return node

    def visit_Constant(self, node):
        if self.kind == "constant" and type(node.value) is int and self.rng.random() < 0.6:
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node


KINDS = ["as_tuple", "as_list", "as_float", "a_bit_more", "far_more", "relative", "text", "none", "one_off",
         "subclass", "generator", "reversed", "compare", "constant"]


def mutants(code, entry):
    yield code
    seen = {ast.unparse(ast.parse(code))}
    for number, kind in enumerate(KINDS):
        tree = Mutate(entry, kind, random.Random(number)).visit(ast.parse(code))
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text not in seen:
            seen.add(text)
            yield text


deserialize = deserializer()
chosen, verdicts = [], []
for dataset, path, wanted in (
    ("humaneval", "humaneval_plus/HumanEvalPlus.jsonl.gz", PROBLEMS),
    ("mbpp", "mbpp_plus/MbppPlus.jsonl.gz", MBPP),
):
    for line in lines(path):
        row = json.loads(line)
        if int(row["task_id"].split("/")[1]) not in wanted:
            continue
        row["plus_input"] = row["plus_input"][:24]
        chosen.append(json.dumps(row))
        code = row["prompt"] + row["canonical_solution"]
        inputs = {part: row[part] for part in ("base_input", "plus_input")}
        if dataset == "mbpp":
            inputs = {part: deserialize(row["task_id"], of) for part, of in inputs.items()}
        expected = {
            part: trusted_exec(code, of, row["entry_point"], record_time=True,
                               output_not_none=row["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS)
            for part, of in inputs.items()
        }
        for program in mutants(code, row["entry_point"]):
            status = {
                part: untrusted_check(dataset, program, copy.deepcopy(inputs[part]), row["entry_point"],
                                      expected[part][0], row["atol"], expected[part][1], fast_check=True,
                                      min_time_limit=4.0)[0]
                for part in inputs
            }
            verdicts.append({"task_id": row["task_id"], "program": program, "base": status["base_input"],
                             "plus": status["plus_input"]})
        print(row["task_id"], [(v["base"], v["plus"]) for v in verdicts if v["task_id"] == row["task_id"]])

write("evalplus.jsonl.gz", chosen)
write("verdicts.jsonl.gz", verdicts)
prompts = []
for name in ("humaneval-prompts", "mbpp-3shot-prompts"):
    with gzip.open(os.path.join(args.prompts, name + ".jsonl.gz"), "rt") as f:
        prompts += [json.loads(line) for line in f]
write("prompts.jsonl.gz", [{k: row[k] for k in ("task", "doc_id", "prompt", "target")} for row in prompts])
write("humaneval.jsonl.gz", lines("humaneval/HumanEval.jsonl.gz")[:12])
write("mbpp.jsonl.gz", [line for line in lines("mbpp/mbpp.jsonl") if 11 <= json.loads(line)["task_id"] <= 22])
