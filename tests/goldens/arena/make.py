"""Makes arena.json.gz: what lmarena/arena-hard-auto's own functions say, to be equalled by ours.

    git clone https://github.com/lmarena/arena-hard-auto; cd arena-hard-auto; git checkout ff46f0a
    pip install numpy pandas scikit-learn pyyaml
    python make.py arena-hard-auto

Verdicts and styles are drawn with a seed; answers are the first of the baseline's.
"""
import functools
import gzip
import json
import pathlib
import random
import re
import sys
import types

import numpy as np
import pandas as pd

REPOSITORY, HERE = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
sys.path.insert(0, str(REPOSITORY))
np.NAN = np.nan  # the name NumPy 2 dropped
for missing in ("tiktoken", "requests", "tqdm"):
    sys.modules[missing] = types.ModuleType(missing)
sys.modules["tqdm"].tqdm = lambda rows, **_: rows
import sklearn.linear_model  # noqa: E402
import add_markdown_info  # noqa: E402
import gen_judgment  # noqa: E402
import show_result  # noqa: E402
import utils_math  # noqa: E402

BASE, MODEL = "gpt-4-0314", "tested"
LABELS = ["A>>B", "A>B", "A=B", "B>A", "B>>A", None]
Regression = sklearn.linear_model.LogisticRegression


def rates(coefficients, boots):
    stats = pd.DataFrame({"model": [BASE, MODEL]})
    of = lambda take: [take(model) for model in stats["model"]]
    stats["score"] = of(lambda m: coefficients[m])
    stats["lower"] = of(lambda m: np.percentile(boots[m], 2.5))
    stats["upper"] = of(lambda m: np.percentile(boots[m], 97.5))
    # show_result.py's win rates, without their rounding to two digits.
    return [100 / (1 + 10 ** ((stats[c][0] - stats[c][1]) / 400)) for c in ("score", "lower", "upper")]


def run(questions, weights, seed):
    draw = random.Random(seed)
    style = lambda: {"token_len": draw.randint(5, 900), "header_count": {"h1": draw.randint(0, 4)},
                     "list_count": {"ordered": draw.randint(0, 20)}, "bold_count": {"**": draw.randint(0, 9)}}
    rows, metadata = [], {BASE: {}, MODEL: {}}
    for q in range(questions):
        labels = draw.choices(LABELS, weights, k=2)
        rows.append({"question_id": q, "model": MODEL, "games": [{"score": label} for label in labels]})
        for model in metadata:
            metadata[model][q] = {"conv_metadata": style()}
    battles = [show_result.get_battles_from_row(row, False, 3, BASE, metadata) for row in rows]
    battles = pd.DataFrame([battle for of_row in battles for battle in of_row])
    np.random.seed(42)
    plain = rates(utils_math.compute_mle_elo(battles, baseline_model=BASE),
                  utils_math.get_bootstrap_result(battles, utils_math.compute_mle_elo, 100, BASE))
    X, Y, models = utils_math.construct_style_matrices(battles)
    styled = {}
    for name, make in (("default", Regression),
                       ("exact", functools.partial(Regression, tol=1e-14, max_iter=100000, solver="newton-cholesky"))):
        sklearn.linear_model.LogisticRegression = make
        np.random.seed(42)
        coefficients, weight = utils_math.fit_bt(X, Y, models, baseline_model=BASE)
        boots, _ = utils_math.get_bootstrap_result_style_control(
            X, Y, battles, models, utils_math.fit_bt, num_round=100, baseline_model=BASE)
        styled[name] = {"rates": rates(coefficients, boots), "style": list(weight)}
    flat = lambda meta: [meta["token_len"]] + [sum(meta[k].values()) for k in ("header_count", "list_count", "bold_count")]
    return {"games": [{"labels": [game["score"] for game in row["games"]],
                       **{key: flat(metadata[model][row["question_id"]]["conv_metadata"])
                          for key, model in (("baseline", BASE), ("model", MODEL))}} for row in rows],
            "battles": len(battles), "plain": plain, "styled": styled}


def looks(answer):
    block = re.compile("```([^`]*)```")
    counts = add_markdown_info.count_markdown_elements(add_markdown_info.remove_pattern(answer, block), suffix="")
    return [sum(counts[key].values()) for key in ("header_count", "list_count", "bold_count")]


answers = []
for line in list(open(REPOSITORY / "data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl", encoding="utf-8"))[:40]:
    row = json.loads(line)
    answers.append(row["choices"][0]["turns"][0]["content"] if "choices" in row else row["messages"][1]["content"]["answer"])
answers += ["", "# a\n## b\n####### c\n#d\n", "```\n# a\n- b\n```\n- b\n* c\n 3. d\n**e** __f__ **g\n**", "``````\n# x"]
pattern = re.compile(r"\[\[([AB<>=]+)\]\]")
judgments = ["", "My final verdict is tie: [[A=B]]", "[[A>B]] and so [[A>B]]", "[[A>B]], no, [[B>A]]", "[[C]] [[]]",
             "x [[A>>B]]", "[[B>>A]]\n", "[[A]] it is", "[A>B]", "[[A>B]", "[[ A>B ]]", "[[=<>AB]]"]
golden = {"runs": [run(60, [2, 4, 2, 3, 1, 1], 1), run(200, [1, 1, 1, 6, 4, 0], 2), run(25, [5, 5, 5, 1, 0, 3], 3)],
          "answers": [{"text": answer, "looks": looks(answer)} for answer in answers],
          "judgments": [{"text": text, "score": gen_judgment.get_score(text, pattern)[0],
                         "again": gen_judgment.get_score(text, pattern)[1]} for text in judgments]}
with gzip.GzipFile(HERE / "arena.json.gz", "wb", mtime=0) as file:
    file.write(json.dumps(golden, ensure_ascii=False).encode())
