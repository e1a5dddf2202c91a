"""How often LightEval's metric of math_500 (0.13.0) says what the harness's math-verify says.

    python compare_math_lighteval.py --lighteval DIR_OF_THE_UNPACKED_WHEEL     needs: see lighteval_functions.py

On ../checkers/math_pairs.jsonl.gz, whose verdicts are the harness's; prints the pairs where they part.
"""

import argparse
import gzip
import json
from pathlib import Path

import lighteval_functions

parser = argparse.ArgumentParser()
parser.add_argument("--lighteval", type=Path, required=True)
lighteval_functions.use(parser.parse_args().lighteval)

from lighteval.metrics.utils.extractive_match_utils import (ExprExtractionConfig, LatexExtractionConfig,
                                                            extract_target_from_pred, lazy_expr_regex, lazy_latex_regex)
from lighteval.metrics.utils.math_comparison import compare_gold_target
from lighteval.utils.language import Language

latex, expression = LatexExtractionConfig(), ExprExtractionConfig()
patterns = [(lazy_latex_regex(latex, Language.ENGLISH), latex), (lazy_expr_regex(expression, Language.ENGLISH), expression)]


def extracted(text):
    return extract_target_from_pred(text.strip(), patterns, "first_match", "any_match", 5)


pairs = [json.loads(line) for line in gzip.open(Path(__file__).parent / "../checkers/math_pairs.jsonl.gz", "rt")]
same = 0
for pair in pairs:
    gold = extracted(f"So the answer is $\\boxed{{{pair['gold']}}}$.")
    verdict = compare_gold_target(gold, extracted(pair["response"]), 6, timeout_seconds=5)
    if verdict == bool(pair["exact_match"]):
        same += 1
    else:
        print(json.dumps({**pair, "lighteval": int(verdict)}, ensure_ascii=False))
print(f"{same} of {len(pairs)} equal")
