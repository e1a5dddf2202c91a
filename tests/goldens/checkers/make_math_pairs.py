"""Answers written in other ways, with the verdicts of lm-evaluation-harness 0.4.13: math_pairs.jsonl.

    python make_math_pairs.py LM_EVAL_TASKS_LEADERBOARD_MATH_UTILS.py > math_pairs.jsonl

Each gold answer meets its variants and the gold answer after it, in frames that take turns. A verdict counts
as true when one of three attempts says so: sympy runs under limits of wall time, so a busy machine can
turn a true into a false.
"""
import importlib.util
import json
import logging
import sys
import types

PAIRS = {
    r'(-\infty,2)\cup(5,\infty)': [
        r'(5,\infty)\cup(-\infty,2)', r'(-\infty, 2) \cup (5, \infty)', r'x<2 \text{ or } x>5',
        r'(-\infty,2]\cup(5,\infty)',],
    r'[1,3]\cup\{5\}': [],
    r'x\le 4': [r'(-\infty,4]', r'4\ge x', r'x<4', r'2x\le 8', r'x \leq 4'],
    r'-3<x\le 7': [r'(-3,7]', r'x\in(-3,7]', r'7\ge x>-3', r'-3<x<7'],
    r'y=2x-3': [r'2x-y=3', r'y=-3+2x', r'2x-3', r'2x-y-3=0', r'4x-2y=6', r'x=2y-3'],
    r'2x+3y-6=0': [r'2x+3y=6', r'4x+6y-12=0', r'y=2-\frac{2}{3}x'],
    r'x^2+y^2=25': [r'y^2+x^2=25', r'x^2+y^2-25=0', r'x^2+y^2=5^2'],
    r'1\pm\sqrt{2}': [
        r'1+\sqrt2,1-\sqrt2', r'1-\sqrt{2}, 1+\sqrt{2}', r'1+\sqrt{2} \text{ and } 1-\sqrt{2}', r'\sqrt{2}\pm1',],
    r'\pm\frac{1}{2}': [r'0.5,-0.5', r'\frac{1}{2},-\frac{1}{2}', r'\pm0.5'],
    r'\{1,2,4\}': [r'1,2,4', r'\{4,2,1\}', r'(1,2,4)', r'\{1,2\}'],
    r'(1,2,3)': [r'1,2,3', r'(1, 2, 3)', r'(3,2,1)', r'\langle 1,2,3\rangle'],
    r'\begin{pmatrix}1&2\\3&4\end{pmatrix}': [],
    r'\frac{\sqrt{3}}{2}': [r'0.866025', r'\sqrt{3}/2', r'\sqrt{\frac{3}{4}}', r'\frac{3}{2\sqrt{3}}', r'0.8660254'],
    r'2\pi r^2': [r'2r^2\pi', r'2 \pi \cdot r^2', r'2\pi R^2'],
    r'\frac{1}{2}+\frac{\sqrt{3}}{2}i': [r'\frac{1+i\sqrt{3}}{2}', r'\frac{1+\sqrt3 i}{2}', r'0.5+0.866025i'],
    r'e^{2x}': [r'(e^x)^2', r'e^{x}e^{x}', r'\exp(2x)'],
    r'\log_2 10': [r'\frac{\ln 10}{\ln 2}', r'1+\log_2 5', r'\frac{1}{\log 2}', r'3.321928'],
    r'\sin 2x': [r'2\sin x\cos x', r'\sin(2x)', r'2 \cos x \sin x'],
    r'5\%': [r'5', r'0.05', r'5\%', r'5 \%'],
    r'45^\circ': [r'45', r'45^{\circ}', r'45 degrees', r'\frac{\pi}{4}'],
    r'\$12.50': [r'12.5', r'\$12.5', r'12.50'],
    r'12,345': [r'12345', r'12{,}345', r'12\,345', r'12 345'],
    r'3:2': [r'\frac{3}{2}', r'1.5', r'3/2', r'3 : 2'],
    r'0.125': [r'\frac18', r'\frac{1}{8}', r'.125', r'1/8'],
    r'1.2\times 10^{5}': [r'120000', r'120,000', r'1.2\cdot10^5'],
    r'n!': [],
    r'\binom{10}{3}': [r'120', r'\frac{10!}{3!7!}'],
    r'\text{Monday}': [r'Monday', r'\text{monday}', r'\textbf{Monday}'],
    r'\text{(B)}': [r'B', r'(B)', r'\textbf{(B)}', r'b'],
    r'\frac{n(n+1)}{2}': [r'\frac{n^2+n}{2}', r'\frac12 n(n+1)', r'n(n+1)/2'],
    r'(x-2)(x+3)': [r'x^2+x-6', r'(x+3)(x-2)', r'(x-2)(x-3)'],
    r'x^3-3x+2': [r'(x-1)^2(x+2)', r'2-3x+x^3'],
    r'|x-1|': [r'|1-x|', r'\sqrt{(x-1)^2}', r'x-1'],
    r'\sqrt[3]{16}': [r'2\sqrt[3]{2}', r'16^{1/3}', r'2^{4/3}'],
    r'2^{100}': [r'4^{50}', r'1267650600228229401496703205376', r'1267650600228229401496703205377'],
    r'10^{20}+1': [r'100000000000000000001', r'100000000000000000000', r'10^{20}'],
    r'3\sqrt{2}-2\sqrt{3}': [r'-2\sqrt3+3\sqrt2', r'\sqrt{18}-\sqrt{12}', r'0.778539'],
    r'\tan^{-1}(2)': [r'\arctan 2', r'\arctan(2)', r'1.107149'],
    r'a^2-b^2': [r'(a-b)(a+b)', r'(a+b)(a-b)'],
    r'\lfloor x\rfloor': [r'\lfloor x \rfloor'],
    r'\mathbb{R}': [r'(-\infty,\infty)', r'\mathbb{R}', r'\text{all real numbers}'],
    r'\emptyset': [r'\{\}', r'\varnothing', r'\text{no solution}'],
    r'\frac{\pi}{6},\frac{5\pi}{6}': [
        r'\frac{5\pi}{6},\frac{\pi}{6}', r'\pi/6, 5\pi/6', r'x=\frac{\pi}{6},\frac{5\pi}{6}',],
    r'f(x)=x^2': [r'x^2', r'f(x) = x^{2}', r'y=x^2'],
    r'k=\frac{3}{4}': [r'0.75', r'\frac34', r'k=0.75', r'm=\frac34'],
    r'1234567890123456789': [r'1234567890123456788', r'1,234,567,890,123,456,789'],
    r'-\frac{7}{3}': [r'\frac{-7}{3}', r'-2\frac13', r'-2.333333', r'-2.3333333', r'\frac{7}{-3}'],
    r'0': [],
    r'i': [r'\sqrt{-1}', r'I', r'1i'],
    r'2-3i': [r'-3i+2', r'2-3I'],
    r'\infty': [],
    r'(3,-4)': [r'3,-4', r'(-4,3)', r'x=3,y=-4', r'(3, -4.0)'],
    r'[0,1)': [r'0\le x<1', r'[0, 1)', r'[0,1]'],
    r'6+9i': [],
    r'(2,12)\cup(12,102)': [],
    r'\left(\frac{1}{3},\frac{2}{3}\right)': [],
}
FRAMES = [
    "Final Answer: The final answer is $@$. I hope it is correct.",
    "Therefore, the answer is $@$.",
    "So $\\boxed{@}$",
    "\\[ \\boxed{@} \\]",
    "The answer is @.",
    "**Answer:** \\(@\\)",
    "We have $y=3$ and hence $z = @$.",
    "Answer: $@$ units",
    "The final answer is: $\\boxed{@}$",
    "$$\n@\n$$",
    "Thus x equals @",
]


def load(path):
    logging.disable(logging.CRITICAL)
    sys.modules["datasets"] = types.SimpleNamespace(Dataset=object)  # for its annotations only
    spec = importlib.util.spec_from_file_location("math_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    utils = load(sys.argv[1])
    golds, turn = list(PAIRS), 0
    for i, gold in enumerate(golds):
        solution = f"Some work shows that the value is $\\boxed{{{gold}}}$."
        doc = {"solution": solution, "answer": utils.remove_boxed(utils.last_boxed_only_string(solution))}
        for answer in [gold, *PAIRS[gold], golds[(i + 1) % len(golds)]]:
            for _ in range(2):
                response = FRAMES[turn % len(FRAMES)].replace("@", answer)
                turn += 1
                row = {"gold": gold, "response": response, "exact_match": 0, "exact_match_original": 0}
                for _ in range(3):
                    for key, value in utils.process_results(doc, [response]).items():
                        row[key] = max(row[key], value)
                print(json.dumps(row), flush=True)


main()
