"""EvalPlus's comparison of an output with the expected one, its special oracles, the Python types of
MBPP+'s inputs and its extraction of code (evalplus 0.3.1, Apache-2.0: eval/__init__.py,
eval/_special_oracle.py, data/mbpp.py, sanitize.py). Trusted side only. numpy.allclose is written out,
since only plain values arrive.
"""
import ast
import cmath
import math

NOT_NONE = ("check_str", "text_match_three", "text_starta_endb")
AS_SETS = (
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
)
RELATIVE = 1e-7


def is_floats(value):
    if isinstance(value, float):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(i, float) for i in value)


def shape(value):
    """Of the array numpy would make. Ragged or not of numbers: ValueError."""
    if isinstance(value, (list, tuple)):
        shapes = {shape(item) for item in value}
        if len(shapes) > 1:
            raise ValueError("ragged")
        return (len(value),) + (shapes.pop() if shapes else ())
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("an int that numpy keeps as an object")
    if not isinstance(value, (int, float, complex)):
        raise ValueError("not a number")
    return ()


def all_close(a, b, absolute):
    left, right = len(shape(a)), len(shape(b))
    if left == right == 0:
        if not (cmath.isfinite(a) and cmath.isfinite(b)):
            return a == b
        return abs(a - b) <= absolute + RELATIVE * abs(b)
    if left < right:
        return all(all_close(a, item, absolute) for item in b)
    if right < left:
        return all(all_close(item, b, absolute) for item in a)
    if len(a) != len(b):
        if len(a) == 1:
            return all(all_close(a[0], item, absolute) for item in b)
        if len(b) == 1:
            return all(all_close(item, b[0], absolute) for item in a)
        raise ValueError("shapes do not fit")
    return all(all_close(x, y, absolute) for x, y in zip(a, b))


def surface_area(base, height):  # Mbpp/581: height above the base, not along the slope
    slope = math.sqrt((base / 2) ** 2 + height**2)
    return round(base**2 + 4 * (base * slope) / 2)


def digit_distance(a, b):  # Mbpp/558: filled up with zeros
    a, b = str(a), str(b)
    length = max(len(a), len(b))
    return sum(abs(int(x) - int(y)) for x, y in zip(a.zfill(length), b.zfill(length)))


def polynomial(coefficients, x):  # HumanEval/32
    return sum(c * math.pow(x, i) for i, c in enumerate(coefficients))


class Comparison:
    """The outputs of one problem, in order: a float among the expected sets the tolerance for all that
    follow, as upstream."""

    def __init__(self, dataset, entry, tolerance):
        self.dataset, self.entry, self.tolerance = dataset, entry, tolerance

    def passes(self, arguments, out, exact_type, expected):
        if self.dataset == "humaneval" and self.entry == "find_zero":
            return abs(polynomial(*arguments, out)) <= self.tolerance
        same = out == expected
        if self.dataset == "mbpp":
            same = self.special(same, arguments, out, expected)
        if self.tolerance == 0 and is_floats(expected):
            self.tolerance = 1e-6
        if same or self.tolerance == 0:
            return bool(same)
        if not exact_type or type(out) is not type(expected):
            return False
        if isinstance(expected, (list, tuple)) and len(out) != len(expected):
            return False
        return all_close(out, expected, self.tolerance)

    def special(self, same, arguments, out, expected):
        if self.entry == "are_equivalent":
            return True
        if self.entry == "sum_div":
            return same or out == 0
        if self.entry == "surface_Area":
            return same or abs(out - surface_area(*arguments)) <= self.tolerance
        if self.entry == "digit_distance_nums":
            return same or out == digit_distance(*arguments)
        if self.entry in AS_SETS:
            return set(out) == set(expected)
        if self.entry in NOT_NONE:
            return out == expected if isinstance(out, bool) else expected == (out is not None)
        return same


def tuples(value, depth):
    """Lists `depth` levels below become tuples."""
    if depth == 0:
        return tuple(value)
    return [tuples(item, depth - 1) for item in value]


def all_tuples(value):
    return tuple(all_tuples(item) for item in value) if isinstance(value, list) else value


def first_tuple(inputs):
    return [[tuple(i[0])] + i[1:] for i in inputs]


MBPP_TYPES = (
    # JSON has lists only; these problems take other types. One input is the list of arguments.
    ((2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740,
      744, 809), lambda inputs: [tuples(i, 1) for i in inputs]),
    ((63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
     lambda inputs: [tuples(i, 2) for i in inputs]),
    ((75, 413, 444, 753), lambda inputs: [[tuples(i[0], 1)] + [i[1]] for i in inputs]),
    ((106, 750), lambda inputs: [[i[0], tuple(i[1])] for i in inputs]),
    ((115,), lambda inputs: [
        [[set(item) if isinstance(item, list) and item else {} for item in i[0]]] for i in inputs]),
    ((124,), lambda inputs: [(float(i[0]), complex(i[1])) for i in inputs]),
    ((250, 405, 446, 617, 720, 763, 808), lambda inputs: [[tuple(i[0]), i[1]] for i in inputs]),
    ((259, 401, 445), lambda inputs: [[tuple(tuple(x) for x in a) for a in i] for i in inputs]),
    ((278,), lambda inputs: [
        [tuple(tuple(x) if isinstance(x, list) else x for x in i[0])] for i in inputs]),
    ((307,), lambda inputs: [[tuple(i[0]), i[1], i[2]] for i in inputs]),
    ((722,), lambda inputs: [[{k: tuple(v) for k, v in i[0].items()}] + i[1:] for i in inputs]),
    ((252,), lambda inputs: [[complex(i[0])] for i in inputs]),
    ((580, 615, 791), lambda inputs: [all_tuples(i) for i in inputs]),
)


def typed_inputs(task, inputs):
    name, number = task.split("/")
    if name == "Mbpp":
        for numbers, convert in MBPP_TYPES:
            if int(number) in numbers:
                return convert(inputs)
    return inputs


def parses(text):
    try:
        ast.parse(text)
        return True
    except (SyntaxError, MemoryError, ValueError, RecursionError):
        return False


def longest_code(text):
    """The run of whole lines with the most filled ones that is Python; the first such run."""
    lines = text.split("\n")
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, best_count = (0, 0), 0
    for first in range(len(lines)):
        # Upstream tries runs of two lines and more, shorter before longer.
        for last in range(len(lines) - 1, first, -1):
            count = filled[last + 1] - filled[first]
            if count <= best_count:
                break
            if parses("\n".join(lines[first : last + 1])):
                while last - 1 > first and filled[last] - filled[first] == count and parses(
                    "\n".join(lines[first:last])
                ):
                    last -= 1
                best, best_count = (first, last), count
                break
    return "\n".join(lines[best[0] : best[1] + 1])


def assigned_name(node):
    """The first identifier among target and value, as the syntax tree of upstream lists them."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for part in [targets[0], node.value]:
        if isinstance(part, ast.Name):
            return part.id
    return None


def names_within(node):
    found = set()
    for part in ast.walk(node):
        for field, value in ast.iter_fields(part):
            if isinstance(value, str) and field in ("id", "attr", "arg", "name", "asname", "module"):
                found.update(value.split("."))
            elif field == "names" and value and isinstance(value[0], str):
                found.update(value)
    return found


def sanitize(text, entry):
    """Imports, and the definitions that the entry point reaches."""
    code = longest_code(text)
    data = code.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    imports, definitions, taken = [], [], set()
    try:
        body = ast.parse(code).body
    except (SyntaxError, MemoryError, ValueError, RecursionError):
        body = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if getattr(node, "module", None) != "__future__":
                imports.append(node)
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = node.name
            fits = not node.decorator_list and any(
                isinstance(part, ast.Return) for part in ast.walk(node)
            )
        elif isinstance(node, ast.ClassDef):
            name, fits = node.name, not node.decorator_list
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            name, fits = assigned_name(node), True
        else:
            continue
        if fits and name not in taken:
            taken.add(name)
            definitions.append((name, node))
    needs = {name: names_within(node) for name, node in definitions}
    reached, queue = {entry}, [entry]
    while queue:
        for name in needs.get(queue.pop(0), ()):
            if name not in reached:
                reached.add(name)
                queue.append(name)
    kept = imports + [node for name, node in definitions if name in reached]
    pieces = [
        data[starts[n.lineno - 1] + n.col_offset : starts[n.end_lineno - 1] + n.end_col_offset]
        for n in kept
    ]
    return b"\n".join(pieces).decode().strip() or code
