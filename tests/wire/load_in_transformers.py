"""Checkpoints that narrow writes, loaded by transformers and compressed-tensors.

For each recipe: `narrow quantize`, then the same token ids through `narrow score --backend
reference` (float32) and through transformers in float32. Over all positions of all prompts:

  KL(transformers || narrow), mean   at most 0.0005 nats (bf16 arithmetic alone costs 0.001)
  the same most likely token         at least 98 %

Where activations are rounded to 8 bits no two programs can agree so closely: the last bit of a sum
decides some codes, each is a step of 6 % (e4m3), and thirty layers carry it on. transformers in
float64 differs from itself in float32 by that much, so those formats are held to this figure,
measured in the same run: at most twice its KL.

    tests/wire/load_in_transformers.py build/narrow data/models/SmolLM2-135M-Instruct.gguf [RECIPE...]
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

RECIPES = ["bf16", "w8a8-fp", "w8a8-int", "w4a16-rtn", "w4a16-int", "w4a16-awq"]
ACTIVATIONS = {"w8a8-fp", "w8a8-int"}
PROMPTS = [
    "The capital of France is Paris, and the capital of Italy is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Whether 'tis nobler in the mind to suffer the slings and arrows of outrageous fortune, or to",
    "Naïve café – Łódź, 東京, Москва: names of cities and",
    "Water boils at 100 degrees Celsius at sea level. At higher altitudes it boils at a lower",
    "Q: A train leaves at 9:40 and arrives at 12:05. How long does it take?\nA:",
]
TOP = 50


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def narrow_logprobs(narrow, model, prompts, ids, folder):
    """Log-probabilities of each next token, and the best TOP after every prefix."""
    rows = [
        {"id": f"{p}:{n}", "token_ids": ids[p][:n]}
        for p in range(len(prompts))
        for n in range(1, len(ids[p]) + 1)
    ]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = run([narrow, "score", model, "--prompts", path, "--top", str(TOP), "--quiet", "--backend", "reference"])
    return {row["id"]: row["top"] for row in map(json.loads, out.splitlines())}


def logits_of(checkpoint, ids, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
    with torch.inference_mode():
        return [torch.log_softmax(model(torch.tensor([i])).logits[0].double(), -1) for i in ids]


def kl_of_top(log_p, top):
    """KL over `top` ([token, logprob], ...) with everything outside it as one event."""
    index = torch.tensor([token for token, _ in top])
    q = torch.tensor([logprob for _, logprob in top], dtype=torch.float64)
    log_p = log_p[index]
    rest_p = max(1 - log_p.exp().sum().item(), 1e-12)
    rest_q = max(1 - q.exp().sum().item(), 1e-12)
    return (log_p.exp() * (log_p - q)).sum().item() + rest_p * math.log(rest_p / rest_q)


def compare(checkpoint, top, ids, activations):
    theirs = logits_of(checkpoint, ids, torch.float32)
    kl, same, positions = 0.0, 0, 0
    for p, log_p in enumerate(theirs):
        for n, row in enumerate(log_p, start=1):
            ours = top[f"{p}:{n}"]
            kl += kl_of_top(row, ours)
            same += int(row.argmax().item() == ours[0][0])
            positions += 1
    bound = 0.0005
    least_same = 0.98
    if activations:
        exact = logits_of(checkpoint, ids, torch.float64)
        noise = sum(((a.exp() * (a - b)).sum(-1)).sum().item() for a, b in zip(exact, theirs))
        agree = sum((a.argmax(-1) == b.argmax(-1)).sum().item() for a, b in zip(exact, theirs))
        bound = 2 * noise / positions
        least_same = agree / positions - 0.1  # three standard errors of 132 positions
    return kl / positions, bound, same / positions, least_same, positions


def main():
    transformers.utils.logging.disable_progress_bar()
    narrow, source, *chosen = sys.argv[1:]
    failed = False
    for recipe in chosen or RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            checkpoint = folder / recipe
            run([narrow, "quantize", source, "--recipe", recipe, "--samples", "4", "-o", checkpoint])
            tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
            ids = [tokenizer(text)["input_ids"] for text in PROMPTS]
            top = narrow_logprobs(narrow, checkpoint, PROMPTS, ids, folder)
            kl, most_kl, same, least_same, positions = compare(
                checkpoint, top, ids, recipe in ACTIVATIONS
            )
        ok = kl <= most_kl and same >= least_same
        failed |= not ok
        print(
            f"{'ok  ' if ok else 'FAIL'} {recipe}: KL {kl:.5f} nats (at most {most_kl:.5f}), "
            f"same top token {same:.3f} (at least {least_same:.3f}), {positions} positions",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
