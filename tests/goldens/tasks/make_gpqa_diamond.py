"""Prompts and verdicts of LightEval's gpqa:diamond (0.13.0).

    python make_gpqa_diamond.py --lighteval DIR_OF_THE_UNPACKED_WHEEL > gpqa_diamond.json     needs: see lighteval_functions.py

Rows are invented (GPQA's are not free to be copied), some of them with blanks around their fields. Responses are drawn
from phrases that the patterns of the extraction know, and near misses of them. LightEval's functions run unchanged: of
its packages only the modules they need are imported, the prompt's function is taken out of its file.
"""

import argparse
import ast
import json
import random
import types
from pathlib import Path

import lighteval_functions

parser = argparse.ArgumentParser()
parser.add_argument("--lighteval", type=Path, required=True)
root = lighteval_functions.use(parser.parse_args().lighteval)

from lighteval.metrics.utils.extractive_match_utils import (IndicesExtractionConfig, extract_target_from_pred,
                                                            lazy_indices_regex)
from lighteval.metrics.utils.math_comparison import compare_gold_target
from lighteval.utils.language import Language

source = (root / "tasks/tasks/gpqa.py").read_text()
function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "gpqa_instruct_prompt")
space = {"random": random, "ascii_uppercase": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "Doc": types.SimpleNamespace}
exec(ast.unparse(function), space)

rows = []
for i in range(40):
    pad = ["", " ", "\n", "\t ", "\u00a0"][i % 5]
    rows.append({"Question": f"{pad}Which of {i} invented things is the {i + 3}rd?{pad}",
                 "Correct Answer": f"{pad}the right one of {i}",
                 "Incorrect Answer 1": f"wrong {i}\n{pad}", "Incorrect Answer 2": f"wrong, {i + 1}",
                 "Incorrect Answer 3": f"{pad}wrong: $x^{i}$"})
random.seed(1234)  # as its pipeline does before it makes documents
prompts = []
for row in rows:
    doc = space["gpqa_instruct_prompt"](row, "gpqa:diamond")
    prompts.append({"query": doc.query, "gold": doc.choices[doc.gold_index]})

config = IndicesExtractionConfig(prefix_for_extraction="NativeLetters", try_extract_without_anchor=True)
patterns = [(lazy_indices_regex(config, 4, Language.ENGLISH), config)]


def extracted(text):
    return extract_target_from_pred(text, patterns, "first_match", "any_match", 5)


def score(gold, response):
    golds, answers = extracted(gold), extracted(response)
    return 1.0 if compare_gold_target(golds, answers, 6, timeout_seconds=5) else 0.0


PHRASES = ["Answer: {}", "answer: ({})", "**Answer: {}**", "ANSWER:{}", "The answer is {}.", "the final answer is {}",
           "The final answer is ({}). I hope it is correct", "final answer is: {}. I hope", "Final answer to this is {}",
           "The final answer, after all, is {}", "{}", "({})", "{})", "**{}**", "{}.", "{}:", "{},", "\n{}. because",
           "\n**{}** is it", "It must be {} then", "option {}", "A rather long thought, about DNA and CO2", "I do not know",
           "answer", "Answer:", "is", "no E here", "Ångström", "答案：{}", "Therefore {}", "x = {} y", "$\\boxed{{{}}}$",
           "final answer", "<think>maybe {}</think>", "the correct choice is {}", "Answer: $LETTER", "Answer:\n{}"]
JOINS = [" ", "\n", ". ", "\n\n", ", ", ""]
random.seed(5)
responses = [phrase.format(letter) for phrase in PHRASES for letter in "ABCDE"] + [""]
for _ in range(1500):
    parts = [random.choice(PHRASES).format(random.choice("AABBCCDDE")) for _ in range(random.randint(1, 6))]
    text = parts[0]
    for part in parts[1:]:
        text += random.choice(JOINS) + part
    responses.append(text)
verdicts = []
for response in responses:
    right = "".join(letter for letter in "ABCD" if score(letter, response))
    verdicts.append({"response": response, "letter": right})
print(json.dumps({"rows": rows, "prompts": prompts, "verdicts": verdicts}, ensure_ascii=False))
