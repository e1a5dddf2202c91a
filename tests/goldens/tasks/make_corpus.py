"""bleu, chrf, ter, f1, mcc and multi_choice_regex by lm-evaluation-harness 0.4.13's own functions.

    pip install lm_eval==0.4.13 --no-deps ... sacrebleu==2.6.0 scikit-learn
    python make_corpus.py --harness DIR_OF_THE_UNPACKED_WHEEL --out .

Writes corpus.json.gz: answers and targets with the score of all, its standard error, and the score of each
document alone; pairs of choices; responses to questions with choices; a task of one continuation;
a task that compares generated answers with choices; runs of words.
"""
import argparse, gzip, json, os, random, sys

p = argparse.ArgumentParser()
for name in ("harness", "out"): p.add_argument("--" + name, required=True)
args = p.parse_args()
sys.path.insert(0, args.harness)
os.environ["DISABLE_MULTIPROC"] = "1"
import sklearn.metrics  # noqa: F401  before what stands in for packages that are not installed
import standins  # noqa: F401
from lm_eval.api import metrics as M
from lm_eval.filters.extraction import MultiChoiceRegexFilter

draw = random.Random(7)
WORDS = ["The", "cat", "sat", "on", "the", "mat", ",", "and", "it's", "3.5", "1,000", "well-known", "Müller", "&quot;", "&amp;", "日本語",
         "naïve", "(so", "it", "was)", "end.", "U.S.", "a/b", "x-1", "5-", "-", "<skipped>", "\n", "-\n", "\u00a0", "«oui»", "$5", "100%", "tab\there", "no!", "?"]
def text(n): return " ".join(draw.choice(WORDS) for _ in range(n))
def noisy(words):
    words = words.split(" ")
    return " ".join(w if draw.random() < 0.8 else draw.choice(WORDS) for w in words if draw.random() < 0.9)
targets = [text(draw.randint(1, 25)) for _ in range(40)]
sets = {"mixed": [(t, noisy(t)) for t in targets], "equal": [(t, t) for t in targets[:3]], "short": [("a b", "a b"), ("x", "x")],
        "nothing": [("one two", "drei"), ("three", "")], "empty_target": [("", "words"), ("a longer text of words", "a longer text of numbers")],
        "one": [("The cat sat on the mat today.", "The cat sat on a mat today .")]}
# What TER moves: runs of words at other places; lengths far apart (its beam); more candidates than it tries.
moves = random.Random(11)
def moved(text):
    words = text.split(" ")
    for _ in range(moves.randint(1, 4)):
        begin = moves.randrange(len(words)); end = begin + moves.randint(1, 6)
        run = words[begin:end]; del words[begin:end]
        at = moves.randint(0, len(words)); words[at:at] = run
    return " ".join(w.upper() if moves.random() < 0.1 else w for w in words if moves.random() < 0.95)
def of(n, words=24): return " ".join(f"w{moves.randrange(words)}" for _ in range(n))
sets["shifted"] = [(t, moved(t)) for t in [of(moves.randint(2, 40), moves.choice((3, 10, 60))) for _ in range(40)]]
sets["lengths"] = [(of(a), of(b)) for a, b in ((1, 90), (90, 1), (120, 2), (70, 130), (0, 4), (4, 0), (140, 60))]
sets["repeats"] = [(of(60, 3), of(55, 3)), ("a b " * 40, "b a " * 40), ("x " * 30, "x " * 25), ("a b c d e f g h", "e f g h a b c d")]
# At its limits and one beyond: a run of ten words, a move by fifty, 25 words off the diagonal.
def words(n, name="u"): return [f"{name}{i}" for i in range(n)]
of_40, of_80, of_100 = words(40), words(80), words(100)
limits = [(of_40, of_40[run:] + of_40[:run]) for run in (10, 11)]
limits += [(of_80, of_80[3:3 + way] + of_80[:3] + of_80[3 + way:]) for way in (50, 51)]
limits += [(of_100, words(off, "n") + of_100[:100 - off]) for off in (25, 26)]
limits += [(of_100, of_100[:30] + of_100[30 + off:] + words(off, "n")) for off in (24, 25)]
sets["limits"] = [(" ".join(target), " ".join(answer)) for target, answer in limits]
SLOW = ("limits", "shifted", "lengths", "repeats")  # to resample
out = {"texts": {}, "choices": [], "filters": []}
for name, items in sets.items():
    items = [[target, answer] for target, answer in items]
    entry = {"items": items}
    for metric in ("bleu", "chrf", "ter"):
        f = getattr(M, metric)
        entry[metric] = {"score": f(items), "each": [f([item]) for item in items],
                         "stderr": M.bootstrap_stderr(f, items, 100) if len(items) > 1 and name not in SLOW else None}
    out["texts"][name] = entry
for classes, n in ((2, 30), (2, 5), (3, 40), (2, 1)):
    pairs = [(draw.randrange(classes), draw.randrange(classes)) for _ in range(n)]
    out["choices"].append({"pairs": pairs, "f1": M.f1_score(pairs) if classes == 2 else None, "mcc": M.matthews_corrcoef(pairs)})
for pairs in ([(0, 0)] * 4, [(1, 1)] * 3 + [(0, 1)], [(0, 1)] * 2 + [(1, 0)]):
    out["choices"].append({"pairs": pairs, "f1": M.f1_score(pairs), "mcc": M.matthews_corrcoef(pairs)})
CHOICES = [["Guilty", "Guilty of Romance", "not guilty.", "An (odd) choice+"], ["yes", "no"], ["1.5", "15", "$1.5", "É"]]
RESPONSES = ["The answer is (B).", "It is Guilty of Romance", "guilty of romance!", "I think: C", ":\n A is right", "NO", "no, or yes", "An (odd) choice+ I say",
             "an odd choice", "", "  ", "é", "1x5", "It is 1.5", "The best answer is [D]. The best answer is [A]", "answer: É", "$1.5", "not guilty"]
OPTIONS = [dict(group_select=0, regex_pattern=r"(\([A-Z]\))", ignore_case=True, ignore_punctuation=True),
           dict(group_select=-1, regex_pattern=r"best answer is (\[[A-Z]\])|(\([A-Z]\))"),
           dict(group_select=0, regex_pattern=r"((?<=The answer is )(.*)(?=.)|(?<=answer is )(.*)(?=.))", ignore_case=True, regexes_to_ignore=[r"\+", "of "])]
for options in OPTIONS:
    f = MultiChoiceRegexFilter(**options)
    for choices in CHOICES:
        got = [list(f.apply([[response]], [{"choices": choices}]))[0][0] for response in RESPONSES]
        out["filters"].append({"options": options, "choices": choices, "responses": RESPONSES, "answers": got})

# A task of one continuation: its own file, prompts of its own code.
rows = [{"text": "The sky is blue and the grass is green"}, {"text": "She opened the door and saw her brother"}, {"text": "One two three"}]
standins.DATA["splits"] = {"test": standins.Rows(rows)}
cfg = standins.load(args.harness + "/lm_eval/tasks/lambada/lambada_openai.yaml")
cfg.pop("tag", None)
task = standins.T.ConfigurableTask(config=cfg)
task.set_fewshot_seed(1234)
out["continuation"] = {"rows": rows, "prompts": []}
for shots in (0, 1):
    for doc in task.eval_docs:
        context = task.fewshot_context(doc, num_fewshot=shots)
        out["continuation"]["prompts"].append([shots, *task.construct_requests(doc, context, metadata=("t", 0, 1)).args])
results = [(-0.5, True), (-3.25, False), (-11.0, False)]
scored = [task.process_results(doc, [result]) for doc, result in zip(rows, results)]
out["continuation"] |= {"results": results, **{key: task.aggregation()[key]([row[key] for row in scored]) for key in ("acc", "perplexity")}}

# Generated answers that are compared with choices, examples parted by one line break.
rows = [{"passage": "Owls hunt at night.", "question": "do owls hunt", "label": 1}, {"passage": "Ice is solid.", "question": "is ice hot", "label": 0},
        {"passage": "Two is even.", "question": "is two even", "label": 1}]
standins.DATA["splits"] = {"train": standins.Rows(rows), "validation": standins.Rows(rows)}
cfg = standins.load(args.harness + "/lm_eval/tasks/super_glue/boolq/seq2seq.yaml")
cfg.pop("tag", None)
cfg["fewshot_delimiter"] = "\n"
out["choice_answers"] = {"rows": rows, "yaml": standins.yaml.safe_dump(cfg), "prompts": [], "scores": []}
task = standins.T.ConfigurableTask(config=cfg)
for shots in (0, 1, 2):
    task.set_fewshot_seed(1234)
    for doc in task.eval_docs: out["choice_answers"]["prompts"].append([shots, task.fewshot_context(doc, num_fewshot=shots)])
for doc in task.eval_docs:
    for response in (" yes", " No", "yes", " yes."):
        out["choice_answers"]["scores"].append([response, task.process_results(doc, [response])["exact_match"]])

# Runs of 13 words that a question shares with a text.
from lm_eval.decontamination.janitor import Janitor, word_ngrams
janitor = Janitor()
runs = lambda t: set(word_ngrams(janitor.normalize_string(t), 13))
out["overlap"] = []
for i in range(24):
    base = text(draw.randint(12, 60))
    words = base.split(" ")
    at = draw.randrange(len(words))
    question = " ".join(words[at:at + draw.randint(10, 30)]).upper() if i % 2 else noisy(base)
    question = "Question: " + question + "?"
    out["overlap"].append({"text": base, "question": question, "shared": bool(runs(base) & runs(question))})

with gzip.GzipFile(args.out + "/corpus.json.gz", "wb", mtime=0) as file: file.write(json.dumps(out, ensure_ascii=False, default=float).encode())
print({k: [v[metric]["score"] for metric in ("bleu", "chrf", "ter")] for k, v in out["texts"].items()})
