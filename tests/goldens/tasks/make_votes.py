"""Votes among several responses, by lm-evaluation-harness's own filters (0.4.13).

    python make_votes.py > votes.json        needs: pip install lm_eval==0.4.13

The filter lists are those of gsm8k-cot-self-consistency.yaml; responses are drawn, so that answers
tie, are missing and are alike but for what the pattern leaves out.
"""

import json
import random

from lm_eval.api.instance import Instance
from lm_eval.filters import build_filter_ensemble

PATTERN = r"The answer is (\-?[0-9\.\,]*[0-9]+)"
REGEX = ["regex", {"regex_pattern": PATTERN}]
PIPELINES = {
    "score-first": [REGEX, ["take_first", None]],
    "maj@64": [REGEX, ["majority_vote", None], ["take_first", None]],
    "maj@8": [["take_first_k", {"k": 8}], REGEX, ["majority_vote", None], ["take_first", None]],
}
TEXTS = ["The answer is 7.", "So, 3 and 4. The answer is 7", "The answer is 12", "The answer is 1,200.",
         "I do not know.", "The answer is -3", "The answer is 12.5", ""]

random.seed(1)
documents = []
for index in range(40):
    texts = random.sample(TEXTS, random.randint(2, len(TEXTS)))
    responses = [random.choice(texts) for _ in range(64)]
    instance = Instance("generate_until", {}, ("", {}), 0)
    instance.resps = responses
    for name, steps in PIPELINES.items():
        build_filter_ensemble(name, steps).apply([instance])
    documents.append({"responses": responses, "answers": instance.filtered_resps})
print(json.dumps({"pattern": PATTERN, "documents": documents}))
